"""What the report of a cleaning shows: the funnel by source and language, what each rule took, examples, alarms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.examples import Example
from lmworks.data.cleaning.policy import Policy
from lmworks.report import Figure, Section, Table, histogram


@dataclass(frozen=True, slots=True)
class Flow:
    """Documents of one source and language that a step treated alike: how many, and their bytes before and after."""

    source: str
    language: str
    step: str
    verdict: str
    rule: str  # the first reason of those that it dropped
    documents: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """A step that took more of a source than the policy lets pass in silence; shares from 0 to 1."""

    source: str
    step: str
    documents: float
    bytes: float

    def __str__(self) -> str:
        return f"{self.step} took {self.documents:.0%} of the documents and {self.bytes:.0%} of the bytes of {self.source}"


def check_balance(flows: Sequence[Flow], names: Sequence[str]) -> None:
    """RuntimeError unless every step began with exactly what the step before it left, in documents and in bytes."""
    for earlier, later in zip(names, names[1:], strict=False):
        left = _totals(flows, lambda flow, step=earlier: flow.step == step and flow.verdict != "dropped")
        came = _totals(flows, lambda flow, step=later: flow.step == step)
        if (left.documents, left.after) != (came.documents, came.before):
            raise RuntimeError(
                f"the ledger does not balance: {earlier} left {left.documents:,} documents of {left.after:,} bytes, and "
                f"{later} began with {came.documents:,} of {came.before:,}"
            )


def alarms(policy: Policy, names: Sequence[str], flows: Sequence[Flow]) -> list[Alarm]:
    """Every step that took more than `policy.alarm` of what a source had in the beginning."""
    found = []
    for source in sorted({flow.source for flow in flows}):
        begun = _totals(flows, lambda flow, source=source: flow.source == source and flow.step == names[0])
        for step in names:
            taken = _taken(flows, lambda flow, source=source, step=step: flow.source == source and flow.step == step)
            shares = (taken.documents / max(begun.documents, 1), (taken.before - taken.after) / max(begun.before, 1))
            if max(shares) > policy.alarm:
                found.append(Alarm(source, step, *shares))
    return found


def sections_of(
    policy: Policy,
    names: Sequence[str],
    flows: Sequence[Flow],
    examples: Sequence[Example],
    tables: Sequence[AnnotationTable],
    raised: Sequence[Alarm],
) -> tuple[Section, ...]:
    return (
        _overview(names, flows, raised),
        _funnel("source", names, flows, lambda flow: flow.source),
        _funnel("language", names, flows, lambda flow: flow.language or "unknown"),
        _rules(flows),
        _measures(policy, tables),
        _shown(examples),
    )


@dataclass(frozen=True, slots=True)
class _Total:
    documents: int
    before: int
    after: int


def _totals(flows: Sequence[Flow], wanted: Callable[[Flow], bool]) -> _Total:
    rows = [flow for flow in flows if wanted(flow)]
    return _Total(
        sum(flow.documents for flow in rows), sum(flow.before for flow in rows), sum(flow.after for flow in rows)
    )


def _taken(flows: Sequence[Flow], wanted: Callable[[Flow], bool]) -> _Total:
    """Documents that were dropped, and the bytes of those and of what was cut from others."""
    rows = _totals(flows, wanted)
    dropped = _totals(flows, lambda flow: wanted(flow) and flow.verdict == "dropped")
    return _Total(dropped.documents, rows.before, rows.after)


def _overview(names: Sequence[str], flows: Sequence[Flow], raised: Sequence[Alarm]) -> Section:
    rows = []
    for step in names:
        of_step = _totals(flows, lambda flow, step=step: flow.step == step)
        dropped = _totals(flows, lambda flow, step=step: flow.step == step and flow.verdict == "dropped")
        cut = _totals(flows, lambda flow, step=step: flow.step == step and flow.verdict == "cut")
        rows.append(
            (step, of_step.documents, dropped.documents, cut.documents, of_step.before, dropped.before, cut.before - cut.after)
        )
    last = _totals(flows, lambda flow: flow.step == names[-1] and flow.verdict != "dropped")
    rows.append(("what stays", last.documents, 0, 0, last.after, 0, 0))
    first = _totals(flows, lambda flow: flow.step == names[0])
    text = (
        f"{first.documents:,} documents of {first.before:,} bytes came in, {last.documents:,} of {last.after:,} bytes stay. "
        "Every step begins with exactly what the one before it left."
    )
    if raised:
        text += " ALARM: " + "; ".join(map(str, raised)) + ". Look at the examples below before you train on what is left."
    header = ("step", "documents", "dropped", "cut", "bytes", "bytes dropped", "bytes cut")
    return Section("What stays", text, (Table(header, tuple(rows)),))


def _funnel(name: str, names: Sequence[str], flows: Sequence[Flow], of: Callable[[Flow], str]) -> Section:
    """A row for each source (or language): documents that each step took, and what stays."""
    rows = []
    for each in sorted({of(flow) for flow in flows}):
        begun = _totals(flows, lambda flow, each=each: of(flow) == each and flow.step == names[0])
        taken = [
            _taken(flows, lambda flow, each=each, step=step: of(flow) == each and flow.step == step).documents
            for step in names
        ]
        left = _totals(
            flows, lambda flow, each=each: of(flow) == each and flow.step == names[-1] and flow.verdict != "dropped"
        )
        rows.append((each, begun.documents, *taken, left.documents, f"{left.after / max(begun.before, 1):.0%}"))
    header = (name, "documents", *names, "stay", "of the bytes")
    text = f"Documents that each step dropped, by {name}."
    return Section(f"By {name}", text, (Table(header, tuple(rows)),))


def _rules(flows: Sequence[Flow]) -> Section:
    counts: dict[tuple[str, str], list[int]] = {}
    for flow in flows:
        if flow.verdict == "dropped":
            count = counts.setdefault((flow.step, flow.rule), [0, 0])
            count[:] = [count[0] + flow.documents, count[1] + flow.before]
    rows = tuple((*key, *count) for key, count in sorted(counts.items(), key=lambda item: -item[1][0]))
    text = "By the first reason of each document that went." if rows else "No document was dropped."
    return Section("Rules", text, (Table(("step", "rule", "documents", "bytes"), rows),) if rows else ())


def _measures(policy: Policy, tables: Sequence[AnnotationTable]) -> Section:
    """A histogram of each measure that a step goes by, of all documents that were read, with its thresholds."""
    figures = []
    for step in policy.steps:
        for name, limit in step.all_limits.items():
            values = np.concatenate([table.measures.get(name, np.zeros(0)) for table in tables])
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            low, high = np.quantile(values, [0.005, 0.995])
            marks = {"at least": limit.at_least, "at most": limit.at_most}
            lines = {told: value for told, value in marks.items() if value is not None}
            shown = np.clip(values, min([low, *lines.values()]), max([high, *lines.values()]))
            drawing = histogram(shown.tolist(), x=f"{step.name}: {name}", y="documents", marks=lines)
            figures.append(Figure(drawing, f"{len(values):,} documents; the outermost 0.5 % are drawn at the ends"))
    return Section("Measures and thresholds", "", (), tuple(figures))


def _shown(examples: Sequence[Example]) -> Section:
    rows = tuple(
        (
            example.step,
            example.rule,
            example.how,
            example.document,
            "" if example.value is None else f"{example.value:.4g}",
            "" if example.threshold is None else f"{example.threshold:.4g}",
            example.after or example.before,
        )
        for example in examples
    )
    header = ("step", "rule", "how", "document", "value", "threshold", "text")
    text = "Some documents of each rule, drawn by a hash of their names, and of cuts the text that went."
    return Section("Examples", text, (Table(header, rows),) if rows else ())
