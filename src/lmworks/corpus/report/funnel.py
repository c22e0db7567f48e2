"""The funnel of a filtering as tables and sections of a report: what is left after each step, by source,
language and kind, what rules took, and where documents lie next to the thresholds."""

from collections.abc import Iterable

import numpy as np

from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR
from lmworks.corpus.filtering.ledger import tally
from lmworks.corpus.report.queries import Alarm, Filtered, thresholds
from lmworks.report import Figure, Fold, Section, Table, histogram

LISTED = 20  # rows of what may be long; the rest is counted
TAIL = 0.005  # of the values at each end of a histogram are drawn at the end


def funnel_sections(filtered: Filtered, raised: list[Alarm]) -> list[Section]:
    steps = tally(filtered.flows, "step")
    came, left = steps[REPAIR], steps[EMPTY]
    text = (
        f"{came.came:,} documents of {came.came_bytes:,} bytes came in, {left.left:,} documents of {left.left_bytes:,} "
        "bytes stay. Of every source each step began with exactly what the one before it left, in documents and in "
        "bytes: this was checked."
    )
    reports = [f"{alarm}. Look at the examples before you train on what is left." for alarm in raised]
    of_rules = rule_tables(filtered)
    if not left.left:
        rules = ", ".join(f"{step} {rule} {number:,}" for step, rule, number, _ in of_rules[1].rows[:10])
        reports.insert(0, f"No document is left: {rules}. Give these steps looser limits, or other kinds and sources.")
    tables = [table for table in of_rules if table.rows]
    folds = (Fold(f"All {len(table.rows):,}", tables=(table,)) for table in tables if len(table.rows) > LISTED)
    return [
        Section("What stays", text, (steps_table(filtered),), alarms=tuple(reports)),
        *(section_by(filtered, name) for name in ("source", "language", "kind")),
        Section("Rules", "", tuple(map(shortened, tables)), folds=tuple(folds)),
        _histograms(filtered),
    ]


def shortened(table: Table) -> Table:
    """The first rows; those that are left out are counted in a last one."""
    if len(table.rows) <= LISTED:
        return table
    more = (f"and {len(table.rows) - LISTED:,} more", *[""] * (len(table.columns) - 1))
    return Table(table.columns, (*table.rows[:LISTED], more), table.caption)


def steps_table(filtered: Filtered) -> Table:
    steps, rows = tally(filtered.flows, "step"), []
    for name in filtered.policy.names:
        step = steps[name]
        taken = (step.dropped_bytes, step.taken_bytes - step.dropped_bytes)
        rows.append((name, step.came, step.dropped, step.cut, step.came_bytes, *taken))
    header = ("step", "documents", "dropped", "cut", "bytes", "bytes dropped", "bytes cut")
    return Table(header, tuple(rows), "In this order; steps on duplicates look only at documents that are left")


def rule_tables(filtered: Filtered) -> list[Table]:
    """The policy; what each rule dropped and cut; and the documents in whose place others went; those of the most
    first."""

    def sorted_by(column: int, rows: Iterable[tuple]) -> tuple[tuple, ...]:
        return tuple(sorted(rows, key=lambda row: (-row[column], row[:column])))

    scopes = [", ".join((*step.sources, *step.kinds, *step.languages)) or "all" for step in filtered.policy.steps]
    steps = tuple((step.name, scope, str(step)) for step, scope in zip(filtered.policy.steps, scopes, strict=True))
    gone = tally((flow for flow in filtered.flows if flow.verdict == "dropped"), "step", "rule")
    dropped = ((*key, of_rule.dropped, of_rule.dropped_bytes) for key, of_rule in gone.items())
    names = ("step", "rule", "documents", "places", "characters", "written")
    cut = (tuple(of_rule[name] for name in names) for of_rule in filtered.cut_rules)
    by_duplicate = filtered.rows(["kept_duplicate", "value"], verdict=["dropped"]).group_by("kept_duplicate")
    sums = by_duplicate.aggregate([("value", "count"), ("value", "min")]).to_pylist()
    kept = [(row["kept_duplicate"], row["value_count"], row["value_min"]) for row in sums if row["kept_duplicate"]]
    caption = "Dropped, by the first reason of each document"
    return [
        Table(("step", "looks at", "rules"), steps, "The policy; the limits of presets are listed below"),
        Table(("step", "rule", "documents", "bytes"), sorted_by(2, dropped), caption),
        Table((*names[:4], "characters cut", "characters written instead"), sorted_by(4, cut), "Cut"),
        Table(("kept duplicate", "dropped for it", "lowest similarity"), sorted_by(1, kept)),
    ]


def thresholds_table(filtered: Filtered) -> Table:
    """For each limit how many documents are beyond it, and the values next to it on both sides."""
    rows = []
    for step, rule, side, threshold, values in thresholds(filtered):
        is_beyond = values < threshold if side == "at least" else values > threshold
        stay, beyond = values[~is_beyond & np.isfinite(values)], values[is_beyond]
        nearest = [f"{each[np.argmin(abs(each - threshold))]:.4g}" if len(each) else "" for each in (stay, beyond)]
        limit = f"{'≥' if side == 'at least' else '≤'} {threshold:,.6g}"
        rows.append((step.name, rule, limit, len(stay) + len(beyond), len(beyond), *nearest))
    header = ("step", "score", "limit", "documents", "beyond", "nearest that stays", "nearest beyond")
    return Table(header, tuple(rows), "Of the documents that came to the step and that it looks at")


def section_by(filtered: Filtered, name: str) -> Section:
    """Documents and bytes that came and that stay of each source, language or kind, the largest first."""
    steps, rows, folds = tally(filtered.flows, name, "step"), [], []
    sizes = {value: steps[value, REPAIR].came_bytes for value in {value for value, _ in steps}}
    largest = sorted(sizes, key=lambda value: (-sizes[value], value))
    for value in largest:
        came, left = steps[value, REPAIR], steps[value, EMPTY]
        share = f"{left.left_bytes / max(came.came_bytes, 1):.1%}"
        rows.append((value or "unknown", came.came, left.left, came.came_bytes, left.left_bytes, share))
    table = Table((name, "documents", "stay", "bytes", "stay", "of the bytes"), tuple(rows))
    for title, taken in (
        ("Documents that each step dropped", lambda step: step.dropped),
        ("Bytes that each step took", lambda step: step.taken_bytes),
        ("Bytes that each step left", lambda step: step.left_bytes),
    ):
        names = filtered.policy.names
        of_steps = tuple((value or "unknown", *(taken(steps[value, step]) for step in names)) for value in largest)
        folds.append(Fold(f"{title}, by {name}", tables=(Table((name, *names), of_steps),)))
    return Section(f"By {name}", "", (shortened(table),), folds=tuple(folds))


def _histograms(filtered: Filtered) -> Section:
    """A histogram for each limit that drops any, of the documents that came to its step and that it looks at."""
    figures = []
    for step, rule, side, threshold, values in thresholds(filtered):
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
    return Section("Scores and thresholds", "", (thresholds_table(filtered),), drawn, page_only=True)
