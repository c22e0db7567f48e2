"""Counts of a cleaning from its ledger: what came to each step, what it took and left, and that nothing is lost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lmworks.corpus.filtering.ledger import compute

_FEWEST = 10  # documents of a folder or a kind of which a share says something
_LEAST = 0.05  # of a source, what a folder or a kind has lost at least for an alarm of its own
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Flow:
    """Documents of one source, kind and language that a step treated alike: how many, their bytes before and after."""

    source: str
    kind: str
    language: str
    step: str
    verdict: str
    rule: str  # the first reason of those that it dropped
    documents: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Amount:
    """Documents, and bytes of UTF-8."""

    documents: int = 0
    bytes: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.documents + other.documents, self.bytes + other.bytes)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.documents - other.documents, self.bytes - other.bytes)

    def __str__(self) -> str:
        return f"{self.documents:,} documents of {self.bytes:,} bytes"


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Tally:
    """What came to a step, what it left and dropped, and how many documents it cut."""

    came: Amount = NOTHING
    left: Amount = NOTHING
    dropped: Amount = NOTHING
    cut: int = 0

    @property
    def taken_bytes(self) -> int:
        return self.came.bytes - self.left.bytes

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.came + other.came, self.left + other.left, self.dropped + other.dropped, self.cut + other.cut)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A step, or all of them together, that took more of a source, or of a folder or a kind in it, than the policy lets
    pass in silence; shares from 0 to 1."""

    source: str
    step: str
    documents: float
    bytes: float

    def __str__(self) -> str:
        shares = f"{self.documents:.0%} of the documents and {self.bytes:.0%} of the bytes"
        return f"{self.step} took {shares} of {self.source}"


class UnbalancedError(RuntimeError):
    """Documents or bytes that the ledger does not account for; nothing is written then."""


def read_flows(ledger: Path) -> list[Flow]:
    """All flows of a ledger, in the order of their names. A document that an earlier step dropped is in none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pc = compute()
    keys, counts = ["source", "kind", "language", "step", "verdict", "rule"], ["bytes_before", "bytes_after"]
    found = []
    for batch in pq.ParquetFile(ledger).iter_batches(columns=[*keys, *counts]):
        columns = {name: pc.fill_null(batch[name].cast(pa.string()), "") for name in keys}
        columns |= {"documents": pa.repeat(1, len(batch)), **{name: batch[name] for name in counts}}
        found.append(_summed(pa.table(columns).filter(pc.field("verdict") != "gone"), keys, ["documents", *counts]))
    whole = _summed(pa.concat_tables(found), keys, ["documents", *counts]) if found else pa.table({})
    return sorted((Flow(*row.values()) for row in whole.to_pylist()), key=lambda flow: tuple(_names(flow)))


def _summed(table: Any, keys: Sequence[str], counts: Sequence[str]) -> Any:
    found = table.group_by(keys).aggregate([(name, "sum") for name in counts])
    return found.select([*keys, *(f"{name}_sum" for name in counts)]).rename_columns([*keys, *counts])


def _names(flow: Flow) -> list[str]:
    return [flow.source, flow.kind, flow.language, flow.step, flow.verdict, flow.rule]


def tally(flows: Iterable[Flow], of: Callable[[Flow], Key]) -> dict[Key, Tally]:
    """The flows summed by whatever `of` says of each."""
    found: dict[Key, Tally] = {}
    for flow in flows:
        key = of(flow)
        found[key] = found.get(key, Tally()) + tally_of(flow)
    return found


def tally_of(flow: Flow) -> Tally:
    """UnbalancedError for a verdict that is none of those that a document in a step can have, or does not fit its
    bytes."""
    came, left = Amount(flow.documents, flow.before), Amount(flow.documents, flow.after)
    if flow.verdict == "dropped" and not flow.after:
        return Tally(came, dropped=came)
    if flow.verdict == "cut":
        return Tally(came, left, cut=flow.documents)
    if flow.verdict == "kept" and flow.before == flow.after:
        return Tally(came, left)
    raise UnbalancedError(f"the ledger does not balance: {flow} is neither kept whole, nor cut, nor dropped")


def check_balance(
    flows: Sequence[Flow],
    names: Sequence[str],
    came: Mapping[str, Amount] | None = None,
    stay: Mapping[str, Amount] | None = None,
) -> None:
    """UnbalancedError unless of every source each step began with exactly what the step before it left, in documents
    and in bytes, and each document was kept, cut or dropped.

    `came` and `stay` are what was read and what was written of each source, where they were counted for themselves.
    """
    tallies = tally(flows, lambda flow: (flow.source, flow.step))
    for source in sorted({source for source, _ in tallies} | (came or {}).keys() | (stay or {}).keys()):
        steps = [tallies.get((source, name), Tally()) for name in names]
        left = ("were read", steps[0].came if came is None else came.get(source, NOTHING))
        for name, step in zip(names, steps, strict=True):
            _check(source, *left, f"came to {name}", step.came)
            left = (f"{name} left", step.left)
        if stay is not None:
            _check(source, *left, "were written", stay.get(source, NOTHING))


def _check(source: str, what: str, amount: Amount, other_what: str, other: Amount) -> None:
    if amount != other:
        raise UnbalancedError(f"the ledger does not balance: of {source}, {amount} {what}, and {other} {other_what}")


@dataclass(frozen=True, slots=True)
class SourcePart:
    """The documents of a source that have something in common, or all of them: what was read, and what stays."""

    source: str
    name: str  # what an alarm calls it; that of the source itself for all of it
    before: Amount
    after: Amount


def alarms(share: float, names: Sequence[str], flows: Sequence[Flow], parts: Iterable[SourcePart] = ()) -> list[Alarm]:
    """Every step that took more than this share of what a source had in the beginning, by source and step; then, by
    the amounts before and after, where all steps together did: of a source of which no single one did, and of those
    parts of a source that are large enough to matter."""
    tallies = tally(flows, lambda flow: (flow.source, flow.step))
    wholes = {source: each.came for (source, step), each in tallies.items() if step == names[0]}
    found = []
    for source in sorted(wholes):
        for name in names:
            step = tallies.get((source, name), Tally())
            taken = Amount(step.dropped.documents, step.taken_bytes)
            found += _alarm(share, source, name, taken, wholes[source])
    reported = {alarm.source for alarm in found}
    for part in parts:
        whole, lost = wholes[part.source], part.before - part.after
        matters = part.before.documents >= _FEWEST and part.before != whole and max(_shares(lost, whole)) > _LEAST
        if part.source not in reported if part.name == part.source else matters:
            found += _alarm(share, part.name, "all steps", lost, part.before)
    return found


def _alarm(share: float, source: str, step: str, taken: Amount, whole: Amount) -> list[Alarm]:
    alarm = Alarm(source, step, *_shares(taken, whole))
    return [alarm] if max(alarm.documents, alarm.bytes) > share else []


def _shares(amount: Amount, whole: Amount) -> tuple[float, float]:
    return amount.documents / max(whole.documents, 1), amount.bytes / max(whole.bytes, 1)
