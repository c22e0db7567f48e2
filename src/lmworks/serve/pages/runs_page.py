"""Runs of evaluations on disk: the list that other pages choose from, the report of one, and two compared.

What was read of a run is kept: it never changes.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import Response

from lmworks.artefact import MANIFEST, REPORT, read_manifest
from lmworks.evaluate.comparison import Comparison, combine_of, compare_runs
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.metric import Combine, Item, Value, value_row
from lmworks.evaluate.release.votes import Vote, run_pairs
from lmworks.evaluate.results import Result, TaskScore, read_results, read_scores
from lmworks.records import Unscored
from lmworks.serve.pages.page_templates import FIGURE_HEADERS, error_page, page
from lmworks.serve.service import Service

SHOWN = 20  # items on a page


@dataclass(frozen=True, slots=True)
class Run:
    """A run by the name of its folder. Runs of the same weights have the same `model`, the beginning of a digest."""

    name: str
    folder: Path
    digest: str
    model: str
    suite: str
    settings: str  # that differ from the defaults
    started: float  # seconds since the epoch


def runs_folder(service: Service) -> Path:
    return Path(service.config.runs) if service.config.runs else service.workspace.resolve().parent / "runs"


def find_runs(service: Service) -> tuple[list[Run], list[str]]:
    """The runs, newest first, and the names of the folders that hold none that can be read."""
    runs, unreadable = [], []
    for folder in (path.parent for path in sorted(runs_folder(service).glob(f"[!.]*/{MANIFEST}"))):
        try:
            made = read_manifest(folder)
            model = ", ".join(digest[:12] for digest in made.models.values())
            suite = ", ".join(Path(path).stem for path in made.config.get("suite", ()))
            run = Run(folder.name, folder, made.content_hash, model, suite, _settings(made.config), made.started)
            scores_of(run)
            runs.append(run)
        except (OSError, ValueError, TypeError, AttributeError):
            unreadable.append(folder.name)
    return sorted(runs, key=lambda run: -run.started), unreadable


def _settings(config: Mapping[str, Any]) -> str:
    defaults = {field.name: field.default for field in fields(SuiteConfig) if field.name not in ("suite", "data")}
    changed = {name: config[name] for name in defaults if config.get(name, defaults[name]) != defaults[name]}
    return ", ".join(name.replace("_", " ") + f" {value}" * (value is not True) for name, value in changed.items())


def find_run(service: Service, name: str) -> Run:
    """The run of this name or content hash; LookupError when there is none."""
    if matches := [run for run in find_runs(service)[0] if name in (run.name, run.digest)]:
        return matches[0]
    raise LookupError(f"there is no run {name}: choose one of those that Evaluation lists; `lmworks eval` makes others")


@lru_cache(maxsize=1024)
def scores_of(run: Run) -> dict[str, dict[str, TaskScore]]:
    return read_scores(run.folder)


@lru_cache(maxsize=8)
def results_of(run: Run) -> tuple[Result, ...]:
    return tuple(read_results(run.folder)[0])


@lru_cache(maxsize=8)
def pairs_of(first: Run, second: Run) -> list[Vote]:
    """The pairs of answers of two runs, before anybody voted on them; LookupError that says why there are none."""
    source = " and ".join(f"{run.name}@{run.digest[:12]}" for run in (first, second))
    if pairs := run_pairs(results_of(first), results_of(second), (first.name, second.name), source):
        return pairs
    shared = _shared(first, second)
    asked = [item for item, _ in shared if not item.choices]
    why = "share no item: choose two runs of one suite"
    if asked and not any(item.prompt == other.prompt for item, other in shared):
        why = "ask the items that they share with different prompts: choose two runs with the same"
    elif asked:
        why = f"gave the same answers to all {len(asked)} items that they share: there is nothing to choose between"
    elif shared:
        why = "share items that are picked from choices, and none whose answer is written: compare them on Evaluation"
    raise LookupError(f"{first.name} and {second.name} {why}")


def _shared(first: Run, second: Run) -> list[tuple[Item, Item]]:
    items, of_second = ({(row.task, row.item.id): row.item for row in results_of(run)} for run in (first, second))
    return [(item, of_second[key]) for key, item in items.items() if key in of_second]


Sides = tuple[tuple[Run, str, float | None], ...]  # a run, what it says, its value or None


@lru_cache(maxsize=8)
def _compared(new: Run, old: Run) -> tuple[list[Comparison], bool]:
    """The comparison, and whether it leaves out what only one of the runs has; ValueError when they share nothing."""
    try:
        return compare_runs(new.folder, old.folder), False
    except ValueError:
        comparisons = compare_runs(new.folder, old.folder, shared=True)
    if not comparisons or not _shared(new, old):
        raise ValueError(f"{new.name} and {old.name} share no item and metric: choose two runs of one suite")
    return comparisons, True


@lru_cache(maxsize=32)
def _differing(new: Run, old: Run, task: str, metric: str) -> list[tuple[float, Item, str, Sides]]:
    """The items with different values, or where an item alone has none, with different responses: how far apart, item,
    prompt, sides; the furthest first."""
    before = {row.item.id: row for row in results_of(old) if row.task == task}
    views, combine = [], combine_of(scores_of(new)[task][metric].combine)
    for row in (row for row in results_of(new) if row.task == task and row.item.id in before):
        both = ((new, row), (old, before[row.item.id]))
        sides = tuple((run, _said(result), _single(combine, result.values[metric])) for run, result in both)
        (_, said, value), (_, other_said, other_value) = sides
        if value != other_value or (value is None and said != other_said):
            apart = 0.0 if value is None or other_value is None else abs(value - other_value)
            prompt = row.item.prompt if isinstance(row.item.prompt, str) else row.item.prompt[-1].content
            views.append((apart, row.item, prompt, sides))
    return sorted(views, key=lambda view: -view[0])


def _single(combine: Combine, value: Value) -> float | None:
    """The metric of one item alone."""
    score = math.nan if isinstance(value, Unscored) else float(combine(np.array(value_row(value))))
    return score if math.isfinite(score) else None


def _said(row: Result) -> str:
    if row.item.choices and len(row.response.choices) == len(row.item.choices):
        return max(zip(row.response.choices, row.item.choices, strict=True))[1]
    return row.response.text or ("(abstained)" if row.response.abstained else "(no text)")


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/evaluation/runs")
    async def compare(first: str = "", second: str = "", task: str = "", metric: str = "") -> Response:
        try:
            new, old = [await asyncio.to_thread(find_run, service, name) for name in (first, second)]
            diffs, partly = await asyncio.to_thread(_compared, new, old)
            names = [(comparison.task, comparison.metric) for comparison in diffs]
            chosen = (task, metric) if (task, metric) in names else names[0]
            items = await asyncio.to_thread(_differing, new, old, *chosen)
        except (LookupError, OSError, ValueError) as error:
            status, text = 404 if isinstance(error, LookupError) else 400, str(error)
            text = text.replace(f"{runs_folder(service)}/", "")  # names of runs, no paths
            return error_page(service, status, "These runs cannot be compared", text, "/evaluation", "Evaluation")
        view = {"diffs": diffs, "partly": partly, "chosen": chosen, "items": items[:SHOWN], "more": len(items) - SHOWN}
        return page(service, "runs.html", new=new, old=old, scores_of=scores_of, **view)

    @routes.get("/evaluation/runs/{name}")
    async def report(name: str) -> Response:
        try:
            run = await asyncio.to_thread(find_run, service, name)
            text = await asyncio.to_thread((run.folder / REPORT).read_text, "utf-8")
        except (LookupError, OSError) as error:
            return error_page(service, 404, "No such run", str(error), "/evaluation", "Evaluation")
        return Response(text, media_type="text/html", headers=FIGURE_HEADERS)  # it has its own style, and no script

    return routes
