"""The page /evaluation: the reports of the current build's stages, with sortable tables and drawn intervals."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from lmworks.artefact import SECTIONS, read_manifest
from lmworks.config import from_mapping
from lmworks.excerpts import passage_html
from lmworks.report import Fold, Section, Table, format_cell
from lmworks.serve.pages import page_templates, runs_page
from lmworks.serve.pages.page_templates import FIGURE_HEADERS, whole_number
from lmworks.serve.service import Service
from lmworks.workspace import Current, certainty_of

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SCORED = re.compile(rf"({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\](?: n=(\d+))?")

Value = str | int | float
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Range:
    """An interval on a scale, in percent of its width; `zero` is where 0 lies when the scale reaches below it."""

    low: float
    high: float
    value: float
    zero: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of a cell: `text`, or with `bar` a value, its interval and the number of items."""

    text: str
    numeric: bool
    key: float | None = None  # what a number is sorted by
    interval: str = ""
    n: str = ""
    bar: Range | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to be drawn: `numeric` says which columns are set in figures alone."""

    name: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sorted_by: int | None = None
    descending: bool = False


def grid(name: str, table: Table, *, by_column: bool = False) -> Grid:
    """The cells of a table; intervals of one row share a scale, where rows are metrics and columns are systems, or
    those of one column, as where one has differences."""
    by_column = by_column or "difference" in table.columns
    lines = zip(*table.rows, strict=True) if by_column else table.rows
    cells = tuple(_row(line) for line in lines)
    rows = tuple(zip(*cells, strict=True)) if by_column else cells
    numeric = tuple(
        bool(rows) and all((row[i].numeric and not row[i].bar) or not row[i].text for row in rows)
        for i in range(len(table.columns))
    )
    return Grid(name, table.caption, table.columns, numeric, rows)


def sorted_grid(table: Grid, column: int, *, descending: bool) -> Grid:
    """Rows by one column: numbers by value, else text; what is no number among numbers comes last either way."""
    if not 0 <= column < len(table.columns):
        return table
    numbers = any(row[column].key is not None for row in table.rows)
    numeric = [row for row in table.rows if not numbers or row[column].key is not None]
    rest = [row for row in table.rows if numbers and row[column].key is None]
    key = (lambda row: row[column].key) if numbers else (lambda row: row[column].text.casefold())
    rows = (*sorted(numeric, key=key, reverse=descending), *rest)
    return Grid(table.name, table.caption, table.columns, table.numeric, rows, column, descending)


def _row(values: Sequence[Value]) -> tuple[Cell, ...]:
    scored = [_SCORED.fullmatch(value) if isinstance(value, str) else None for value in values]
    numbers = [float(number) for match in scored if match for number in match.groups()[:3]]
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    if low >= 0 and 0.01 <= high <= 1:
        high = 1.0  # a share: drawn on the scale of all shares
    return tuple(_cell(value, match, low, high) for value, match in zip(values, scored, strict=True))


def _cell(value: Value, scored: re.Match[str] | None, low: float, high: float) -> Cell:
    if isinstance(value, (bool, str)) and not scored:
        number = float(value) if isinstance(value, str) and re.fullmatch(_NUMBER, value) else None
        return Cell(str(value), number is not None, number)
    if not scored:
        return Cell(format_cell(value), True, float(value))
    middle, start, end = (float(number) for number in scored.groups()[:3])
    span = (high - low) or 1.0
    at = [round(100 * (number - low) / span, 2) for number in (start, end, middle)]
    bar = Range(at[0], at[1], at[2], round(-100 * low / span, 2) if low < 0 else None)
    return Cell(scored[1], True, middle, f"[{scored[2]}, {scored[3]}]", scored[4] or "", bar)


# Their reports show texts with the personal data that were cut: for who cleans, not for who may ask.
_PRIVATE = frozenset(("data.clean",))


@dataclass(frozen=True, slots=True)
class StageReport(Generic[S]):
    """The report of one stage, its sections as they are or as they are shown, and when it was made."""

    stage: str
    use: str
    made: float
    seconds: float
    sections: tuple[S, ...]


@dataclass(frozen=True, slots=True)
class FigureView:
    link: str
    caption: str


@dataclass(frozen=True, slots=True)
class PartView:
    """A section, or what is folded in it; figures are files of their own, passages are HTML."""

    title: str
    text: str
    tables: tuple[Grid, ...]
    figures: tuple[FigureView, ...]
    passages: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section with an anchor; `withheld`: it has excerpts that are not shown here."""

    anchor: str
    part: PartView
    folds: tuple[PartView, ...]
    alarms: tuple[str, ...]
    withheld: bool = False


def read_reports(workspace: Path, current: Current) -> tuple[StageReport[Section], ...]:
    """The reports of the stages of the current build, the evaluation first, since it is what people come for."""
    reports = []
    for name, folder in current.stages.items():
        manifest = read_manifest(workspace / folder)
        path = workspace / folder / SECTIONS
        rows = json.loads(path.read_text("utf-8")) if path.is_file() else []
        sections = tuple(from_mapping(Section, row, [str(path)]) for row in rows)
        reports.append(StageReport(name, current.uses[name], manifest.started, manifest.seconds, sections))
    return tuple(sorted(reports, key=lambda one: one.use != "ground.evaluate"))


def stage_views(reports: Sequence[StageReport[Section]], sort: str = "") -> tuple[StageReport[SectionView], ...]:
    """Sections with their tables as grids; `sort` is "TABLE.COLUMN", with a leading "-" for descending.

    ValueError for one that is none of this.
    """
    table, column = _sorting(sort)

    def part_view(stage: StageReport[Section], number: int, place: int, part: Section | Fold, figure: int) -> PartView:
        """`place` is that of its first table within the section, `figure` that of its first figure within the stage."""
        tables = [
            _grid(f"{stage.stage}-{number}-{place + each}", one, table, column, descending=sort.startswith("-"))
            for each, one in enumerate(part.tables)
            if one.rows
        ]
        figures = [
            FigureView(f"/evaluation/figure/{stage.stage}/{figure + each}.svg", one.caption)
            for each, one in enumerate(part.figures)
        ]
        passages = [] if stage.use in _PRIVATE else [Markup(passage_html(passage)) for passage in part.passages]
        return PartView(part.title, part.text, tuple(tables), tuple(figures), tuple(passages))

    views: list[StageReport[SectionView]] = []
    for stage in reports:
        sections, figures = [], 0
        for number, section in enumerate(stage.sections):
            parts, tables = [], 0
            for part in _parts(section):
                parts.append(part_view(stage, number, tables, part, figures))
                tables, figures = tables + len(part.tables), figures + len(part.figures)
            folds = tuple(part for part in parts[1:] if part.text or part.tables or part.figures or part.passages)
            withheld = stage.use in _PRIVATE and any(part.passages for part in _parts(section))
            sections.append(SectionView(f"{stage.stage}-{number}", parts[0], folds, section.alarms, withheld))
        views.append(StageReport(stage.stage, stage.use, stage.made, stage.seconds, tuple(sections)))
    return tuple(view for view in views if view.sections)


def figure(reports: Sequence[StageReport[Section]], stage: str, number: int) -> str:
    """The SVG of a figure of a stage, counted from 0 over its sections and their folds; LookupError when there is
    none."""
    for one in reports:
        figures = [figure.svg for section in one.sections for part in _parts(section) for figure in part.figures]
        if one.stage == stage and number < len(figures):
            return figures[number]
    raise LookupError(f"no figure {number} of {stage}")


def _parts(section: Section) -> tuple[Section | Fold, ...]:
    """The section itself, then what is folded in it."""
    return (section, *section.folds)


def _sorting(sort: str) -> tuple[str, int]:
    if not sort:
        return "", 0
    table, dot, column = sort.removeprefix("-").rpartition(".")
    if not (dot and table and column):
        raise ValueError(f"a table is sorted by TABLE.COLUMN, got {sort[:40]!r}")
    return table, whole_number(column, 0, "column", most=1000)


def _grid(name: str, table: Table, wanted: str, column: int, *, descending: bool) -> Grid:
    made = grid(name, table)
    return sorted_grid(made, column, descending=descending) if name == wanted else made


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    routes.include_router(runs_page.router(service))

    async def reports() -> tuple[StageReport[Section], ...]:
        if service.current is None:
            return ()
        return await asyncio.to_thread(read_reports, service.workspace, service.current)

    @routes.get("/evaluation")
    async def evaluation(sort: str = "") -> HTMLResponse:
        try:
            stages = stage_views(await reports(), sort)
        except ValueError as error:
            return page_templates.error_page(service, 400, "That table cannot be shown", str(error), "/evaluation")
        except FileNotFoundError as error:
            return page_templates.error_page(service, 404, "The build is not there any more", str(error), "/evaluation")
        certainty = certainty_of(service.workspace, service.current) if service.current else None
        runs, unreadable = await asyncio.to_thread(runs_page.find_runs, service)
        of_runs = {"runs": runs, "unreadable": unreadable, "scores_of": runs_page.scores_of}
        return page_templates.page(service, "evaluation.html", stages=stages, sort=sort, certainty=certainty, **of_runs)

    @routes.get("/evaluation/figure/{stage}/{number}.svg")
    async def drawing(stage: str, number: str) -> Response:
        try:
            svg = figure(await reports(), stage, whole_number(number, 0, "figure"))
        except (LookupError, ValueError, FileNotFoundError):
            return page_templates.error_page(service, 404, "No such figure", "The current build has no such figure.")
        return Response(svg, media_type="image/svg+xml", headers=FIGURE_HEADERS)

    return routes
