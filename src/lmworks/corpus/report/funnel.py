"""The funnel of a filtering as tables and sections of a report: what is left after each step, by source,
language and kind, what rules took, and where documents lie next to the thresholds."""

from collections.abc import Callable

import numpy as np

from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR
from lmworks.corpus.filtering.ledger import tally
from lmworks.corpus.report.queries import Alarm, Filtered, thresholds
from lmworks.report import Figure, Fold, Section, Table, histogram

LISTED = 20  # rows of what may be long; the rest is counted
TAIL = 0.005  # of the values at each end of a histogram are drawn at the end


def funnel_sections(found: Filtered, raised: list[Alarm]) -> list[Section]:
    steps = tally(found.flows, "step")
    came, left = steps[REPAIR], steps[EMPTY]
    text = (
        f"{came.came:,} documents of {came.came_bytes:,} bytes came in, {left.left:,} documents of {left.left_bytes:,} "
        "bytes stay. Of every source each step began with exactly what the one before it left, in documents and in "
        "bytes: this was checked."
    )
    reports = [f"{alarm}. Look at the examples before you train on what is left." for alarm in raised]
    dropped = dropped_table(found)
    if not left.left:
        rules = ", ".join(f"{step} {rule} {number:,}" for step, rule, number, _ in dropped.rows[:10])
        reports.insert(0, f"No document is left: {rules}. Give these steps looser limits, or other kinds and sources.")
    tables = [
        table for table in (policy_table(found), dropped, cut_table(found), duplicates_table(found)) if table.rows
    ]
    folds = (Fold(f"All {len(table.rows):,}", tables=(table,)) for table in tables if len(table.rows) > LISTED)
    return [
        Section("What stays", text, (steps_table(found),), alarms=tuple(reports)),
        *(_by(found, name) for name in ("source", "language", "kind")),
        Section("Rules", "", tuple(map(shortened, tables)), folds=tuple(folds)),
        _histograms(found),
    ]


def shortened(table: Table) -> Table:
    """The first rows; those that are left out are counted in a last one."""
    if len(table.rows) <= LISTED:
        return table
    more = (f"and {len(table.rows) - LISTED:,} more", *[""] * (len(table.columns) - 1))
    return Table(table.columns, (*table.rows[:LISTED], more), table.caption)


def steps_table(found: Filtered) -> Table:
    steps, rows = tally(found.flows, "step"), []
    for name in found.policy.names:
        step = steps[name]
        taken = (step.dropped_bytes, step.taken_bytes - step.dropped_bytes)
        rows.append((name, step.came, step.dropped, step.cut, step.came_bytes, *taken))
    header = ("step", "documents", "dropped", "cut", "bytes", "bytes dropped", "bytes cut")
    return Table(header, tuple(rows), "In this order; steps on duplicates look only at documents that are left")


def policy_table(found: Filtered) -> Table:
    scopes = [", ".join((*step.sources, *step.kinds, *step.languages)) or "all" for step in found.policy.steps]
    rows = [(step.name, scope, str(step)) for step, scope in zip(found.policy.steps, scopes, strict=True)]
    return Table(("step", "looks at", "rules"), tuple(rows), "The policy; the limits of presets are listed below")


def flow_table(found: Filtered, name: str) -> Table:
    """Documents and bytes that came and that stay of each source, language or kind, the largest first."""
    steps, rows = tally(found.flows, name, "step"), []
    for each in _largest(found, name):
        came, left = steps[each, REPAIR], steps[each, EMPTY]
        share = f"{left.left_bytes / max(came.came_bytes, 1):.1%}"
        rows.append((each or "unknown", came.came, left.left, came.came_bytes, left.left_bytes, share))
    return Table((name, "documents", "stay", "bytes", "stay", "of the bytes"), tuple(rows))


def _largest(found: Filtered, name: str) -> list[str]:
    sizes = tally((flow for flow in found.flows if flow.step == REPAIR), name)
    return sorted(sizes, key=lambda each: (-sizes[each].came_bytes, each))


def dropped_table(found: Filtered) -> Table:
    gone = tally((flow for flow in found.flows if flow.verdict == "dropped"), "step", "rule")
    rows = sorted(((*key, each.dropped, each.dropped_bytes) for key, each in gone.items()), key=_most(2))
    return Table(("step", "rule", "documents", "bytes"), tuple(rows), "Dropped, by the first reason of each document")


def cut_table(found: Filtered) -> Table:
    names = ("step", "rule", "documents", "places", "characters", "written")
    rows = [tuple(each[name] for name in names) for each in found.cut_rules]
    header = ("step", "rule", "documents", "places", "characters cut", "characters written instead")
    return Table(header, tuple(sorted(rows, key=_most(4))), "Cut")


def duplicates_table(found: Filtered) -> Table:
    """The documents in whose place others went, those of the most first."""
    gone = found.rows(["kept_duplicate", "value"], verdict=["dropped"]).group_by("kept_duplicate")
    sums = gone.aggregate([("value", "count"), ("value", "min")]).to_pylist()
    rows = [(row["kept_duplicate"], row["value_count"], row["value_min"]) for row in sums if row["kept_duplicate"]]
    return Table(("kept duplicate", "dropped for it", "lowest similarity"), tuple(sorted(rows, key=_most(1))))


def _most(column: int) -> Callable[[tuple], tuple]:
    """Sorts rows by a column of numbers, the highest first."""
    return lambda row: (-row[column], row[:column])


def thresholds_table(found: Filtered) -> Table:
    """For each limit how many documents are beyond it, and the values next to it on both sides."""
    rows = []
    for step, rule, side, threshold, values in thresholds(found):
        is_beyond = values < threshold if side == "at least" else values > threshold
        stay, beyond = values[~is_beyond & np.isfinite(values)], values[is_beyond]
        nearest = [f"{each[np.argmin(abs(each - threshold))]:.4g}" if len(each) else "" for each in (stay, beyond)]
        limit = f"{'≥' if side == 'at least' else '≤'} {threshold:,.6g}"
        rows.append((step.name, rule, limit, len(stay) + len(beyond), len(beyond), *nearest))
    header = ("step", "score", "limit", "documents", "beyond", "nearest that stays", "nearest beyond")
    return Table(header, tuple(rows), "Of the documents that came to the step and that it looks at")


def _by(found: Filtered, name: str) -> Section:
    table, names = flow_table(found, name), found.policy.names
    steps, largest, folds = tally(found.flows, name, "step"), _largest(found, name), []
    for title, taken in (
        ("Documents that each step dropped", lambda step: step.dropped),
        ("Bytes that each step took", lambda step: step.taken_bytes),
        ("Bytes that each step left", lambda step: step.left_bytes),
    ):
        rows = tuple((each or "unknown", *(taken(steps[each, step]) for step in names)) for each in largest)
        folds.append(Fold(f"{title}, by {name}", tables=(Table((name, *names), rows),)))
    return Section(f"By {name}", "", (shortened(table),), folds=tuple(folds))


def _histograms(found: Filtered) -> Section:
    """A histogram for each limit that drops any, of the documents that came to its step and that it looks at."""
    figures = []
    for step, rule, side, threshold, values in thresholds(found):
        there = values[np.isfinite(values)]
        beyond = int((there < threshold if side == "at least" else there > threshold).sum())
        if beyond:
            low, high = np.quantile(there, [TAIL, 1 - TAIL])
            shown = np.clip(there, min(low, threshold), max(high, threshold)).tolist()
            drawing = histogram(shown, x=rule, y="documents", marks={f"{side} {threshold:,.6g}": threshold}, log=True)
            figures.append(
                (-beyond, Figure(drawing, f"{step.name}: {rule}, {len(there):,} documents, {beyond:,} beyond"))
            )
    drawn = tuple(figure for _, figure in sorted(figures, key=lambda each: each[0]))
    return Section("Scores and thresholds", "", (thresholds_table(found),), drawn, page_only=True)
