"""Paired comparison of two runs over the same items: which is better, or that the items cannot tell.

    for one in compare_runs(Path("runs/new"), Path("runs/old")):
        print(one)

Each metric of each task is tested on the items that have a value in both runs: McNemar's test (mid-p) where values are
0 or 1, else a permutation test that swaps the runs' values by item or cluster. Holm's correction counts all of a call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmworks.evaluate.metric import Combine, Item, Value, value_row
from lmworks.evaluate.results import Result, read_results
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics.significance import holm, is_binary, mcnemar, non_inferiority, paired_score, permutation_test

Verdict = Literal["better", "worse", "differs", "cannot tell", "identical"]
Column = tuple[str, str, Combine, bool | None, list[Item], list[Value], list[Value]]  # task, metric, ..., new, old


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of a candidate less that of a baseline. `p` is None where it could not be tested; `left_out` counts the
    items without a value in one of the runs. A metric without a direction "differs"; "identical" are values that are
    equal on every item."""

    task: str
    metric: str
    higher_is_better: bool | None
    difference: Score
    p: float | None
    p_adjusted: float | None
    verdict: Verdict
    left_out: int = 0

    def __str__(self) -> str:
        tested = "" if self.p_adjusted is None else f" p={self.p_adjusted:.3g}"
        left_out = f", {self.left_out} items without a value in one run" if self.left_out else ""
        return f"{self.task} {self.metric}: {self.verdict}, {self.difference}{tested}{left_out}"


def compare_values(
    combine: Combine,
    items: Sequence[Item],
    candidate: Sequence[Value],
    baseline: Sequence[Value],
    higher_is_better: bool | None = True,
    *,
    task: str = "",
    metric: str = "",
    alpha: float = 0.05,
) -> Comparison:
    """Test of one metric on two columns of values of the same items."""
    new, old, clusters = _rows(items, candidate, baseline)
    left_out, difference, p = len(items) - len(clusters), Unscored("no item has a value in both runs"), None
    defined = bool(clusters) and np.isfinite(combine(np.stack([new.sum(axis=0), old.sum(axis=0)]))).all()
    if clusters and not defined:
        difference = Unscored("nothing to divide by in one of the runs")
    elif clusters:
        difference = paired_score(new, old, combine, ["difference", task, metric], clusters)
        if is_binary(np.concatenate([new, old])) and len(set(clusters)) == len(clusters):
            p = mcnemar(new[:, 0].tolist(), old[:, 0].tolist())
        else:
            p = permutation_test(new, old, combine, clusters)
    verdict = "identical" if clusters and np.array_equal(new, old) else "cannot tell"
    return adjusted([Comparison(task, metric, higher_is_better, difference, p, p, verdict, left_out)], alpha)[0]


def compare_runs(
    candidate: Path | str, baseline: Path | str, alpha: float = 0.05, *, shared: bool = False
) -> list[Comparison]:
    """Every metric of every task of two folders of runs, or those that they share, on the items that they share.

    ValueError where they hold an item differently (prompt, references or anything else), and, unless `shared`, where
    one has tasks, items or metrics that the other has not.
    """
    return adjusted(
        [
            compare_values(combine, items, new, old, direction, task=task, metric=metric)
            for task, metric, combine, direction, items, new, old in _columns(Path(candidate), Path(baseline), shared)
        ],
        alpha,
    )


def assert_not_worse(
    new: Path | str, old: Path | str, margin: float | Mapping[str, float], alpha: float = 0.05
) -> None:
    """AssertionError, with a table, unless every metric of the new run is shown to be less than `margin` worse than in
    the old one: for pytest. Margins are in units of the metric, one for all or by name of those to test.

    Each is tested at `alpha`, since all must pass. Metrics without a direction are left out.
    """
    kept, table = kept_margins(new, old, margin, alpha)
    if not kept:
        raise AssertionError(f"{new} is not shown to keep to {old}, new less old:\n{table}")


def kept_margins(
    new: Path | str,
    old: Path | str,
    margin: float | Mapping[str, float],
    alpha: float = 0.05,
    tasks: Callable[[str], bool] = lambda task: True,
) -> tuple[bool, str]:
    """Whether every metric of these tasks keeps to the old run's, and the table that says so, as `assert_not_worse`."""
    lines, failed, measured, known = [], 0, set(), set()
    for task, metric, combine, direction, items, *values in _columns(Path(new), Path(old)):
        known |= {metric} if direction is not None else set()
        allowed = margin.get(metric) if isinstance(margin, Mapping) else margin
        if direction is None or allowed is None or not tasks(task):
            continue
        measured.add(metric)
        rows, sign = _rows(items, *values), 1 if direction else -1
        found = non_inferiority(*rows[:2], lambda s, f=combine, k=sign: k * f(s), allowed, rows[2], alpha=alpha)
        failed += not found.holds
        word = {True: "not worse", False: "WORSE", None: "CANNOT TELL"}[found.holds]
        if found.holds is None and found.needed:
            word += f": {found.needed} items would, if both are equally good"
        difference = found.difference
        if isinstance(difference, Scored):
            ends = sorted(sign * end for end in difference.interval)
            difference = replace(difference, value=sign * difference.value, interval=(ends[0], ends[1]))
        lines.append(f"  {task:<20} {metric:<16} {difference!s:<34} limit {-sign * allowed:<+8g} {word}")
    if not lines or (isinstance(margin, Mapping) and measured != set(margin)):
        names = ", ".join(sorted(known)) or "none: add test questions (docs/evaluation.md)"
        raise ValueError(f"a margin names no metric with a direction; the runs have {names}")
    return not failed, "\n".join(lines)


def adjusted(found: Sequence[Comparison], alpha: float = 0.05) -> list[Comparison]:
    """The comparisons with p corrected for as many as there are, and the verdicts that follow."""
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    judged = []
    for one in found:
        p, verdict = (
            None if one.p is None else next(corrected),
            one.verdict if one.verdict == "identical" else "cannot tell",
        )
        if p is not None and p < alpha and isinstance(one.difference, Scored):
            rises = (one.difference.value > 0) == one.higher_is_better
            verdict = "differs" if one.higher_is_better is None else "better" if rises else "worse"
        judged.append(replace(one, p_adjusted=p, verdict=verdict))
    return judged


def _rows(
    items: Sequence[Item], candidate: Sequence[Value], baseline: Sequence[Value]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Sums of the items that have a value in both, (n, columns) each, and their clusters."""
    kept = [
        (value_row(one), value_row(two), item.cluster or item.id)
        for item, one, two in zip(items, candidate, baseline, strict=True)
        if not (isinstance(one, Unscored) or isinstance(two, Unscored))
    ]
    new, old = (np.array([row[side] for row in kept], dtype=np.float64) for side in (0, 1))
    return new, old, [row[2] for row in kept]


def _columns(candidate: Path, baseline: Path, shared: bool = False) -> Iterator[Column]:
    (new, new_scores), (old, old_scores) = read_results(candidate), read_results(baseline)
    ours, theirs = _by_item(new, candidate), _by_item(old, baseline)
    if shared:
        ours = {key: row for key, row in ours.items() if key in theirs}
    else:
        _check_same("items", ours, theirs, candidate, baseline)
    for key, row in ours.items():
        one, two = row.item, theirs[key].item
        if names := [field.name for field in fields(Item) if getattr(one, field.name) != getattr(two, field.name)]:
            raise ValueError(f"{candidate} and {baseline} hold {' '.join(key)} differently ({', '.join(names)})")
    metrics, others = (
        {
            (task, name, of.combine, f"higher is better: {of.higher_is_better}"): of
            for task, of_task in scores.items()
            for name, of in of_task.items()
        }
        for scores in (new_scores, old_scores)
    )
    if not shared:
        _check_same("metrics", metrics, others, candidate, baseline)
    for task, name, of in ((*key[:2], of) for key, of in metrics.items() if key in others):
        keys = [key for key in ours if key[0] == task]
        values = [[rows[key].values[name] for key in keys] for rows in (ours, theirs)]
        items = [ours[key].item for key in keys]
        yield task, name, combine_of(of.combine), of.higher_is_better, items, values[0], values[1]


def combine_of(name: str) -> Combine:
    """The function that `TaskScore.combine` names."""
    module, _, function = name.partition(":")
    if not module.startswith(("lmworks.evaluate.", "lmworks.statistics.")):  # a file may not run what it likes
        raise ValueError(f"a metric is combined by {name!r}, which is no function of lmworks")
    return getattr(import_module(module), function)


def _by_item(rows: Sequence[Result], folder: Path) -> dict[tuple[str, str], Result]:
    found: dict[tuple[str, str], Result] = {}
    for row in rows:
        if found.setdefault((row.task, row.item.id), row) is not row:
            raise ValueError(f"{folder} has item {row.item.id} of {row.task} twice: its id must be unique")
    return found


def _check_same(kind: str, ours: Mapping[Any, Any], theirs: Mapping[Any, Any], candidate: Path, baseline: Path) -> None:
    for one, two, folder in ((ours, theirs, candidate), (theirs, ours, baseline)):
        if only := [" ".join(key) for key in one if key not in two]:
            raise ValueError(
                f"runs of different {kind}: only {folder} has {only[0]} ({len(only)} in all); compare what both have "
                "with --shared"
            )
