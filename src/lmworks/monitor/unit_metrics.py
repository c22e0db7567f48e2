"""Metrics of experiments: for each unit a sum over a sum, straight from the columns of the log and from outcomes.

    thumbs            thumbs up, of all thumbs                 abstained, error      of all answers; lower is better
    seconds>4         answers slower than that, of all         rating                the mean of the outcomes `rating`
    click             units with an outcome of that name       click/answer          outcomes of that name per answer
    -NAME             NAME, and lower is better

An outcome is anything that the page or a client names: click, copy, return, task_done, rating, ... What counts for a
unit lies in the `window_days` after its assignment; units whose window is still open do not count yet, so that
what is late, within the window, falls on all arms alike, and an outcome that is later changes nothing. A thumb is
about its answer, and counts whenever it is given.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmworks.monitor.log import Reader
from lmworks.records import Experiment

DAY = 86400.0
_EACH = "1"
# name -> numerator and denominator over interactions, lower is better
_OF_ANSWERS = {
    "thumbs": ("CASE WHEN i.thumbs = 'up' THEN 1 ELSE 0 END", "CASE WHEN i.thumbs != '' THEN 1 ELSE 0 END", False),
    "abstained": ("i.abstained", _EACH, True),
    "error": ("CASE WHEN i.error != '' THEN 1 ELSE 0 END", _EACH, True),
}
# `unit != ''` leads to the index by unit and time: that by experiment would go through all rows of a long one.
_WITHIN = "i.unit = a.unit AND i.unit != '' AND i.time <= a.time + ? AND i.experiment = a.experiment"
_BEFORE = "i.unit = a.unit AND i.unit != '' AND i.time < a.time"


@dataclass(frozen=True, slots=True)
class UnitMetric:
    """A unit's value is `numerator` / `denominator`, SQL summed over its answers `i`; those of an outcome are summed
    over the outcomes `o`, and a denominator of "" is 1 for each unit, of "answers" the number of its answers."""

    name: str
    numerator: str
    denominator: str
    outcome: str
    lower_is_better: bool


def parse_metric(text: str) -> UnitMetric:
    """The metric of this name; ValueError names what is allowed."""
    name, lower = text.removeprefix("-"), text.startswith("-")
    if slow := re.fullmatch(r"seconds>(\d+(?:\.\d+)?)", name):
        return UnitMetric(text, f"CASE WHEN i.seconds > {float(slow[1])!r} THEN 1 ELSE 0 END", _EACH, "", True)
    if name in _OF_ANSWERS:
        numerator, denominator, natural = _OF_ANSWERS[name]
        return UnitMetric(text, numerator, denominator, "", natural or lower)
    outcome = re.fullmatch(r"([A-Za-z_][\w.-]{0,63}?)(/answer)?", name, re.ASCII)
    if outcome is None:
        allowed = ", ".join((*_OF_ANSWERS, "seconds>2.5", "rating", "an outcome such as click", "click/answer"))
        raise ValueError(f"no metric {text!r}: there is {allowed}; a leading - says that lower is better")
    if name == "rating":
        return UnitMetric(text, "o.value", _EACH, "rating", lower)
    return UnitMetric(text, _EACH, "answers" if outcome[2] else "", outcome[1], lower)


@dataclass(frozen=True, slots=True)
class UnitTable:
    """The units of an experiment whose windows are closed, in the order in which they closed.

    `arms` numbers each unit's arm; `sums` leads from a metric to the units' numerators and denominators, (2, units),
    and `before` to the same of their past; `assigned` counts all units of each arm, `open_` those that do not yet.
    """

    arms: np.ndarray
    sums: dict[str, np.ndarray]
    before: dict[str, np.ndarray]
    assigned: tuple[int, ...]
    open_: int


def unit_table(reader: Reader, experiment: Experiment, now: float) -> UnitTable:
    """Read what the units did; numbers alone, one row a unit in memory."""
    names, window = list(experiment.arms), experiment.window_days * DAY
    metrics = [parse_metric(name) for name in dict.fromkeys((experiment.metric, *experiment.guardrails))]
    if experiment.shadow:
        return _shadow_table(reader, experiment, metrics)
    counts = dict(reader.rows("assignments", "arm, count(*)", "experiment = ? GROUP BY arm", [experiment.name]))
    closed = "experiment = ? AND time <= ? ORDER BY time, unit"
    units = reader.rows("assignments", "unit, arm, time", closed, [experiment.name, now - window])
    column_of = {unit: number for number, (unit, _, _) in enumerate(units)}

    def sums(rows: Sequence[tuple[Any, ...]], columns: int) -> np.ndarray:
        """(columns, units) of rows (unit, columns); units without a row have 0."""
        table = np.zeros((columns, len(units)))
        for unit, *values in rows:
            if unit in column_of:
                table[:, column_of[unit]] = values
        return table

    def measured(join: str, start: list[Any], outcomes: str) -> dict[str, np.ndarray]:
        of_metric: dict[str, np.ndarray] = {}
        of_answers = [metric for metric in metrics if not metric.outcome]
        columns = [f"sum({sql})" for ratio in of_answers for sql in (ratio.numerator, ratio.denominator)] + ["count(*)"]
        tables, where = "assignments a JOIN interactions i ON " + join, "a.experiment = ? GROUP BY a.unit"
        rows = reader.rows(tables, f"a.unit, {', '.join(columns)}", where, [*start, experiment.name])
        table = sums(rows, len(columns))
        for number, metric in enumerate(of_answers):
            of_metric[metric.name] = table[2 * number : 2 * number + 2]
        for metric in (unit_metric for unit_metric in metrics if unit_metric.outcome):
            tables = f"assignments a JOIN outcomes o ON o.unit = a.unit AND o.name = ? AND {outcomes}"
            columns = f"a.unit, sum({metric.numerator}), count(*)"
            summed, count = sums(reader.rows(tables, columns, where, [metric.outcome, *start, experiment.name]), 2)
            denominator = {"": np.ones(len(units)), "answers": table[-1], _EACH: count}[metric.denominator]
            of_metric[metric.name] = np.stack([summed if metric.denominator else np.minimum(summed, 1), denominator])
        return of_metric

    return UnitTable(
        np.array([names.index(arm) for _, arm, _ in units], dtype=np.intp),
        measured(_WITHIN, [window], "o.time >= a.time AND o.time <= a.time + ?"),
        measured(_BEFORE, [], "o.time < a.time") if experiment.unit == "user" else {},
        tuple(counts.get(name, 0) for name in names),
        sum(counts.values()) - len(units),
    )


def _shadow_table(reader: Reader, experiment: Experiment, metrics: Sequence[UnitMetric]) -> UnitTable:
    """Each answer, seen or unseen, as a unit of its own: nobody acts on an answer that is not seen."""
    names, of_answers = list(experiment.arms), [metric for metric in metrics if not metric.outcome]
    columns = [expression for metric in of_answers for expression in (metric.numerator, metric.denominator)]
    where = "i.experiment = ? AND i.experiment != '' ORDER BY i.time, i.id"
    rows = reader.rows("interactions i", ", ".join(["i.arm", *columns]), where, [experiment.name])
    rows = [row for row in rows if row[0] in experiment.arms]
    arms = np.array([names.index(row[0]) for row in rows], dtype=np.intp)
    table = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), len(columns)).T
    sums = {metric.name: table[2 * number : 2 * number + 2] for number, metric in enumerate(of_answers)}
    sums |= {metric.name: np.zeros((2, len(rows))) for metric in metrics if metric.outcome}
    return UnitTable(arms, sums, {}, tuple(int((arms == number).sum()) for number in range(len(names))), 0)
