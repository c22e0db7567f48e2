"""Suites asked of several models, and what they score more or less than the first of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lmworks.artefact import StageContext
from lmworks.evaluate import suite
from lmworks.evaluate.comparison import compare_runs
from lmworks.evaluate.config import WithSuites
from lmworks.evaluate.results import SCORES, read_scores
from lmworks.records import Scored
from lmworks.report import Section, Table


def run_suites(config: WithSuites, context: StageContext, model: Path, name: str) -> Path:
    """A folder with what a model answered to the suites, kept in the work folder by this name; errors as of
    `suite.evaluate`."""
    folder = context.work / f"suites-{name}"
    if not (folder / SCORES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        suite.evaluate(
            config.suite_config(), replace(context, inputs={}, output=folder, work=folder, models={"model": str(model)})
        )
    return folder


def suites_section(before: Path, after: Mapping[str, Path]) -> tuple[Section, dict[tuple[str, str, str], Scored]]:
    """Section on the scores of one run, and of others by their names, whose differences are paired item by item; these
    by (name, task, metric)."""
    old, rows, differences = read_scores(before), [], dict[tuple[str, str, str], Scored]()
    for name, folder in after.items():
        new = read_scores(folder)
        for one in compare_runs(folder, before):
            scores = (scores[one.task][one.metric].score for scores in (old, new))
            rows.append((name, one.task, one.metric, *scores, one.difference, one.verdict))
            if isinstance(one.difference, Scored):
                differences[name, one.task, one.metric] = one.difference
    columns = ("model", "task", "metric", "before", "after", "difference", "verdict")
    text = "Paired by item; verdicts after Holm's correction for the tasks of a model."
    return Section("Suites", text, (Table(columns, tuple(rows), "With 95 % intervals"),)), differences
