"""The page /evaluation: the reports of the current build's stages, with tables that can be sorted."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from lmworks.artefact import SECTIONS, read_manifest
from lmworks.config import from_mapping
from lmworks.excerpts import escaped
from lmworks.report import Figure, Fold, Section, fold_html
from lmworks.serve.pages import page_templates, runs_page
from lmworks.serve.pages.page_templates import FIGURE_HEADERS, whole_number
from lmworks.serve.service import Service
from lmworks.workspace import Current, certainty_of

S = TypeVar("S")

# Their reports show texts with the personal data that were cut: for who cleans, not for who may ask.
_PRIVATE = frozenset(("corpus.filter",))


@dataclass(frozen=True, slots=True)
class StageReport(Generic[S]):
    """The report of one stage, its sections as they are or as HTML, and when it was made."""

    stage: str
    use: str
    made: float
    seconds: float
    sections: tuple[S, ...]


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section with an anchor, its HTML and that of its folds, by title; `withheld`: excerpts are not shown here."""

    anchor: str
    title: str
    html: Markup
    folds: tuple[tuple[str, Markup], ...]
    alarms: tuple[str, ...]
    withheld: bool


def read_reports(workspace: Path, current: Current) -> tuple[StageReport[Section], ...]:
    """The reports of the stages of the current build, the evaluation first, since it is what people come for."""
    reports = []
    for name, folder in current.stages.items():
        manifest = read_manifest(workspace / folder)
        path = workspace / folder / SECTIONS
        rows = json.loads(path.read_text("utf-8")) if path.is_file() else []
        sections = tuple(from_mapping(Section, row, [str(path)]) for row in rows)
        reports.append(StageReport(name, current.uses[name], manifest.started, manifest.seconds, sections))
    return tuple(sorted(reports, key=lambda report: report.use != "ground.evaluate"))


def stage_views(reports: Sequence[StageReport[Section]]) -> tuple[StageReport[SectionView], ...]:
    """Sections as HTML, whose figures are links to files of their own."""
    views: list[StageReport[SectionView]] = []
    for stage in reports:
        numbers, private = count(), stage.use in _PRIVATE

        def draw(figure: Figure, stage: str = stage.stage, numbers: Iterator[int] = numbers) -> str:
            link, caption = f"/evaluation/figure/{escaped(stage)}/{next(numbers)}.svg", escaped(figure.caption)
            image = f'<img src="{link}" alt="{caption}" loading="lazy" width="672" height="346">'
            return (
                f'<figure class="drawing"><a href="{link}">{image}</a>'
                f'<figcaption class="small muted">{caption}</figcaption></figure>'
            )

        sections = []
        for number, section in enumerate(stage.sections):
            withheld = private and any(part.passages for part in _parts(section))
            shown = [
                (part.title, fold_html(replace(part, passages=()) if private else part, draw))
                for part in _parts(section)
            ]
            (title, html), *folds = ((title, Markup(html)) for title, html in shown)
            folds = tuple((title, html) for title, html in folds if html)
            sections.append(SectionView(f"{stage.stage}-{number}", title, html, folds, section.alarms, withheld))
        if sections:
            views.append(StageReport(stage.stage, stage.use, stage.made, stage.seconds, tuple(sections)))
    return tuple(views)


def figure(reports: Sequence[StageReport[Section]], stage: str, number: int) -> str:
    """The SVG of a figure of a stage, counted from 0 over its sections and their folds; LookupError when there is
    none."""
    for report in reports:
        figures = [figure.svg for section in report.sections for part in _parts(section) for figure in part.figures]
        if report.stage == stage and number < len(figures):
            return figures[number]
    raise LookupError(f"no figure {number} of {stage}")


def _parts(section: Section) -> tuple[Section | Fold, ...]:
    """The section itself, then what is folded in it."""
    return (section, *section.folds)


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    routes.include_router(runs_page.router(service))

    async def reports() -> tuple[StageReport[Section], ...]:
        if service.current is None:
            return ()
        return await asyncio.to_thread(read_reports, service.workspace, service.current)

    @routes.get("/evaluation")
    async def evaluation() -> HTMLResponse:
        try:
            stages = stage_views(await reports())
        except FileNotFoundError as error:
            return page_templates.error_page(service, 404, "The build is not there any more", str(error), "/evaluation")
        certainty = certainty_of(service.workspace, service.current) if service.current else None
        runs, unreadable = await asyncio.to_thread(runs_page.find_runs, service)
        of_runs = {"runs": runs, "unreadable": unreadable, "scores_of": runs_page.scores_of}
        return page_templates.page(service, "evaluation.html", stages=stages, certainty=certainty, **of_runs)

    @routes.get("/evaluation/figure/{stage}/{number}.svg")
    async def drawing(stage: str, number: str) -> Response:
        try:
            svg = figure(await reports(), stage, whole_number(number, 0, "figure"))
        except (LookupError, ValueError, FileNotFoundError):
            return page_templates.error_page(service, 404, "No such figure", "The current build has no such figure.")
        return Response(svg, media_type="image/svg+xml", headers=FIGURE_HEADERS)

    return routes
