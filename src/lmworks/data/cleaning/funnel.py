"""The funnel in the report: what is left after each step, in whole, by source and by language, and what rules took."""

from collections.abc import Callable, Mapping, Sequence

from lmworks.data.cleaning.drawing import stacked_bars, step_plot
from lmworks.data.cleaning.flows import Alarm, Flow, Tally, tally
from lmworks.report import Figure, Fold, Section, Table

READ = "as read"  # before the first step
DRAWN = 7  # sources or languages that a picture tells apart; the others are drawn as one
UNFOLDED = 20  # rows of a table that are shown before it is opened


def funnel_sections(names: Sequence[str], flows: Sequence[Flow], raised: Sequence[Alarm]) -> tuple[Section, ...]:
    return (
        _overview(names, flows, raised),
        _by("source", names, flows, lambda flow: flow.source),
        _by("language", names, flows, lambda flow: flow.language or "unknown"),
        _rules(flows),
    )


def _overview(names: Sequence[str], flows: Sequence[Flow], raised: Sequence[Alarm]) -> Section:
    steps = tally(flows, lambda flow: flow.step)
    rows = []
    for name in names:
        step = steps.get(name, Tally())
        counts = (step.came.documents, step.dropped.documents, step.cut)
        rows.append((name, *counts, step.came.bytes, step.dropped.bytes, step.cut_bytes))
    first, last = steps.get(names[0], Tally()).came, steps.get(names[-1], Tally()).left
    rows.append(("what stays", last.documents, 0, 0, last.bytes, 0, 0))
    text = (
        f"{first.documents:,} documents of {first.bytes:,} bytes came in, {last.documents:,} of {last.bytes:,} bytes "
        "stay. Of every source each step began with exactly what the one before it left, and each document was kept, "
        "cut or dropped: this was checked, in documents and in bytes."
    )
    header = ("step", "documents", "dropped", "cut", "bytes", "bytes dropped", "bytes cut")
    told = tuple(f"{alarm}. Look at the examples before you train on what is left." for alarm in raised)
    return Section("What stays", text, (Table(header, tuple(rows)),), alarms=told)


def _by(name: str, names: Sequence[str], flows: Sequence[Flow], of: Callable[[Flow], str]) -> Section:
    """The same for each source or language, the largest first: as a picture, and as tables."""
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
    folds = [
        Fold(f"Documents that each step dropped, by {name}", tables=(_taken(name, names, largest, tallies, False),)),
        Fold(f"Bytes that each step took, by {name}", tables=(_taken(name, names, largest, tallies, True),)),
    ]
    if len(rows) > UNFOLDED:
        folds.insert(0, Fold(f"All {len(rows):,}", tables=(Table(header, rows),)))
    figures = _figures(name, names, largest, tallies)
    return Section(f"By {name}", "", (Table(header, rows[:UNFOLDED]),), figures, folds=tuple(folds))


def _taken(
    name: str, names: Sequence[str], largest: Sequence[str], tallies: Mapping[tuple[str, str], Tally], of_bytes: bool
) -> Table:
    rows = []
    for each in largest:
        steps = [tallies.get((each, step), Tally()) for step in names]
        rows.append((each, *(step.taken_bytes if of_bytes else step.dropped.documents for step in steps)))
    return Table((name, *names), tuple(rows))


def _figures(
    name: str, names: Sequence[str], largest: Sequence[str], tallies: Mapping[tuple[str, str], Tally]
) -> tuple[Figure, ...]:
    """Bytes after each step as bars of one piece for each, and the shares of them as lines."""
    groups = {each: [each] for each in largest[:DRAWN]}
    if len(largest) > DRAWN:
        groups[f"{len(largest) - DRAWN} others"] = list(largest[DRAWN:])
    left: dict[str, dict[str, float]] = {}
    for group, members in groups.items():
        bars = left.setdefault(group, {READ: 0.0})
        for step in names:
            of_step = [tallies.get((each, step), Tally()) for each in members]
            if step == names[0]:
                bars[READ] = float(sum(each.came.bytes for each in of_step))
            bars[step] = float(sum(each.left.bytes for each in of_step))
    shares = {
        group: {step: value / max(bars[READ], 1.0) for step, value in bars.items()} for group, bars in left.items()
    }
    return (
        Figure(stacked_bars(left, x="bytes left", unit="B"), f"What is left after each step, by {name}"),
        Figure(step_plot(shares, y="share of the bytes"), f"What is left of each {name} after each step"),
    )


def _rules(flows: Sequence[Flow]) -> Section:
    dropped = tally((flow for flow in flows if flow.verdict == "dropped"), lambda flow: (flow.step, flow.rule))
    ranked = sorted(dropped.items(), key=lambda item: (-item[1].dropped.documents, item[0]))
    rows = tuple((*key, found.dropped.documents, found.dropped.bytes) for key, found in ranked)
    text = "By the first reason of each document that went." if rows else "No document was dropped."
    table = Table(("step", "rule", "documents", "bytes"), rows[:UNFOLDED])
    folds = (Fold(f"All {len(rows):,} rules", tables=(Table(table.columns, rows),)),) if len(rows) > UNFOLDED else ()
    return Section("Rules", text, (table,) if rows else (), folds=folds)
