"""The funnel in the report: what is left after each step, by source, language and kind, what rules took, and where the
documents lie beside the thresholds."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lmworks.corpus.filtering.flows import Alarm, Flow, Tally, tally
from lmworks.corpus.report.queries import Cleaning
from lmworks.report import Figure, Fold, Section, Table, as_svg, histogram, new_axes

READ = "as read"  # before the first step
DRAWN = 7  # sources that a picture tells apart; the others are drawn as one
UNFOLDED = 20  # rows of a table that are shown before it is opened
TAIL = 0.005  # of the values at each end of a histogram are drawn at the end


def funnel_sections(cleaning: Cleaning, raised: Sequence[Alarm]) -> tuple[Section, ...]:
    names, flows = cleaning.steps, cleaning.flows
    return (
        _overview(names, flows, raised),
        _by("source", names, flows, lambda flow: flow.source),
        _by("language", names, flows, lambda flow: flow.language or "unknown"),
        _by("kind", names, flows, lambda flow: flow.kind, _unseen_rows(cleaning)),
        _rules(flows),
        _duplicates(cleaning),
        _measures(cleaning),
    )


def _overview(names: Sequence[str], flows: Sequence[Flow], raised: Sequence[Alarm]) -> Section:
    steps = tally(flows, lambda flow: flow.step)
    rows = []
    for name in names:
        step = steps.get(name, Tally())
        cut_bytes = step.taken_bytes - step.dropped.bytes
        counts = (step.came.documents, step.dropped.documents, step.cut)
        rows.append((name, *counts, step.came.bytes, step.dropped.bytes, cut_bytes))
    first, last = steps.get(names[0], Tally()).came, steps.get(names[-1], Tally()).left
    rows.append(("what stays", last.documents, 0, 0, last.bytes, 0, 0))
    text = (
        f"{first} came in, {last} stay. Of every source each step began with exactly what the one before it left, in "
        "documents and in bytes: this was checked."
    )
    header = ("step", "documents", "dropped", "cut", "bytes", "bytes dropped", "bytes cut")
    alarms = tuple(f"{alarm}. Look at the examples before you train on what is left." for alarm in raised)
    return Section("What stays", text, (Table(header, tuple(rows)),), alarms=alarms)


def _by(
    name: str, names: Sequence[str], flows: Sequence[Flow], of: Callable[[Flow], str], alarms: tuple[str, ...] = ()
) -> Section:
    """The same for each source, language or kind, the largest first."""
    tallies = tally(flows, lambda flow: (of(flow), flow.step))
    begun = {each: tallies.get((each, names[0]), Tally()).came for each in {each for each, _ in tallies}}
    largest = sorted(begun, key=lambda each: (-begun[each].bytes, each))
    stay = {each: tallies.get((each, names[-1]), Tally()).left for each in largest}
    rows = tuple(
        (
            *(each, begun[each].documents, stay[each].documents, begun[each].bytes, stay[each].bytes),
            f"{stay[each].bytes / max(begun[each].bytes, 1):.1%}",
        )
        for each in largest
    )
    header = (name, "documents", "stay", "bytes", "stay", "of the bytes")
    folds = [_all(header, rows)] if len(rows) > UNFOLDED else []
    for title, count in (
        ("Documents that each step dropped", lambda step: step.dropped.documents),
        ("Bytes that each step took", lambda step: step.taken_bytes),
    ):
        taken = tuple((each, *(count(tallies.get((each, step), Tally())) for step in names)) for each in largest)
        folds.append(Fold(f"{title}, by {name}", tables=(Table((name, *names), taken),)))
    figure = Figure(_bars(names, largest, tallies), f"What is left after each step, by {name}")
    return Section(f"By {name}", "", (Table(header, rows[:UNFOLDED]),), (figure,), folds=tuple(folds), alarms=alarms)


def _bars(names: Sequence[str], largest: Sequence[str], tallies: Mapping[tuple[str, str], Tally]) -> str:
    """SVG of the bytes after each step, from the top, as bars of one piece for each of the largest."""
    from matplotlib.ticker import EngFormatter

    groups = {each: [each] for each in largest[:DRAWN]}
    if len(largest) > DRAWN:
        groups[f"{len(largest) - DRAWN} others"] = list(largest[DRAWN:])
    figure, axes = new_axes("bytes left", "", height=1.4 + 0.28 * len(names))
    ends = np.zeros(len(names) + 1)
    for group, members in groups.items():
        first = sum(tallies.get((each, names[0]), Tally()).came.bytes for each in members)
        left = [sum(tallies.get((each, name), Tally()).left.bytes for each in members) for name in names]
        axes.barh(range(len(ends)), [first, *left], 0.72, ends, label=group)
        ends += [first, *left]
    axes.set_yticks(range(len(ends)), [READ, *names])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(EngFormatter("B"))
    if len(groups) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return as_svg(figure)


def _unseen_rows(cleaning: Cleaning) -> tuple[str, ...]:
    """Rows of tables are taken for plain text; where they are web pages, the steps about those do not see them."""
    rows = dict(cleaning.values("rows")).get("text", 0)
    unseen = [step.name for step in cleaning.policy.steps if "web" in step.kinds and "text" not in step.kinds]
    message = (
        f"{rows:,} rows of tables are of the kind text, at which {', '.join(unseen)} do not look. Where they are web "
        "pages, say so: kind=web of data.read, as in --set documents.kind=web."
    )
    return (message,) if rows and unseen else ()


def _rules(flows: Sequence[Flow]) -> Section:
    dropped = tally((flow for flow in flows if flow.verdict == "dropped"), lambda flow: (flow.step, flow.rule))
    ranked = sorted(dropped.items(), key=lambda item: (-item[1].dropped.documents, item[0]))
    rows = tuple((*key, found.dropped.documents, found.dropped.bytes) for key, found in ranked)
    header = ("step", "rule", "documents", "bytes")
    folds = (_all(header, rows),) if len(rows) > UNFOLDED else ()
    return Section("Rules", "By the first reason of each document.", (Table(header, rows[:UNFOLDED]),), folds=folds)


def _duplicates(cleaning: Cleaning) -> Section:
    clusters = cleaning.duplicates.clusters()
    text = f"{sum(count for _, count, _, _ in clusters):,} documents went for the sake of {len(clusters):,} others."
    header = ("for the sake of", "dropped", "lowest similarity", "by")
    rows = tuple((twin, count, f"{similarity:.3f}", steps) for twin, count, similarity, steps in clusters[:UNFOLDED])
    return Section("Duplicates", text, (Table(header, rows),) if rows else ())


def _measures(cleaning: Cleaning) -> Section:
    """A histogram for each limit of the documents that its step looks at, those that refuse most first."""
    found, absent = [], []
    for step in cleaning.policy.steps:
        for rule, limit in step.all_limits.items():
            values = cleaning.measure(rule, step)
            values = values[np.isfinite(values)]
            if not len(values):
                absent.append(f"{rule} ({step.name})")
                continue
            low, high = limit.bounds
            beyond = int(((values < low) | (values > high)).sum())
            marks = {f"at least {low:,.6g}": low, f"at most {high:,.6g}": high}
            marks = {name: bound for name, bound in marks.items() if np.isfinite(bound)}
            ends = [*np.quantile(values, [TAIL, 1 - TAIL]), *marks.values()]
            drawing = histogram(
                np.clip(values, min(ends), max(ends)).tolist(), x=rule, y="documents", marks=marks, log=True
            )
            found.append(
                (beyond, Figure(drawing, f"{step.name}: {rule}, {len(values):,} documents, {beyond:,} beyond"))
            )
    active = tuple(figure for beyond, figure in sorted(found, key=lambda each: -each[0]) if beyond)
    idle = tuple(figure for beyond, figure in found if not beyond)
    text = f"No document that the step looks at has a value of: {', '.join(absent)}." if absent else ""
    folds = (Fold(f"{len(idle)} limits that refuse nothing", figures=idle),) if idle else ()
    return Section("Measures and thresholds", text, figures=active, folds=folds, page_only=True)


def _all(header: tuple[str, ...], rows: tuple[tuple, ...]) -> Fold:
    return Fold(f"All {len(rows):,}", tables=(Table(header, rows),))
