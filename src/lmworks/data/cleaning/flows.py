"""Counts of a cleaning: what came to each step, what it took and what it left, and that nothing is unaccounted for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from lmworks.data.cleaning.profile import Share

_ALL = "all steps"  # what an alarm calls them together
_FEWEST = 10  # documents of a folder or a kind of which a share says something
_LEAST = 0.05  # of a source, what a folder or a kind has lost at least for an alarm of its own
_NAMES = {"all": "{source}", "folder": "{source}/{value}", "kind": "the kind {value} in {source}"}  # by facet
Key = TypeVar("Key")


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
class Amount:
    """Documents, and bytes of UTF-8."""

    documents: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.documents:,} documents of {self.bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Tally:
    """What came to a step, and what became of it; of those that were cut, `cut_bytes` went."""

    came: Amount = Amount()
    left: Amount = Amount()
    dropped: Amount = Amount()
    cut: int = 0
    cut_bytes: int = 0

    @property
    def taken_bytes(self) -> int:
        return self.dropped.bytes + self.cut_bytes

    def __add__(self, other: Self) -> "Tally":
        return Tally(
            _sum(self.came, other.came),
            _sum(self.left, other.left),
            _sum(self.dropped, other.dropped),
            self.cut + other.cut,
            self.cut_bytes + other.cut_bytes,
        )


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
    came = Amount(flow.documents, flow.before)
    if flow.verdict == "dropped" and not flow.after:
        return Tally(came, dropped=came)
    left = Amount(flow.documents, flow.after)
    if flow.verdict == "cut":
        return Tally(came, left, cut=flow.documents, cut_bytes=flow.before - flow.after)
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
    nothing = Tally()
    for source in sorted({source for source, _ in tallies} | (came or {}).keys() | (stay or {}).keys()):
        steps = [tallies.get((source, name), nothing) for name in names]
        for name, step in zip(names, steps, strict=True):
            _check(source, f"came to {name}", step.came, f"{name} kept, cut and dropped", _accounted(step))
        for (name, step), (after, later) in zip(
            zip(names, steps, strict=True), zip(names[1:], steps[1:], strict=True), strict=False
        ):
            _check(source, f"{name} left", step.left, f"came to {after}", later.came)
        if came is not None:
            _check(source, "were read", came.get(source, Amount()), f"came to {names[0]}", steps[0].came)
        if stay is not None:
            _check(source, f"{names[-1]} left", steps[-1].left, "were written", stay.get(source, Amount()))


def _accounted(step: Tally) -> Amount:
    return Amount(step.left.documents + step.dropped.documents, step.left.bytes + step.dropped.bytes + step.cut_bytes)


def _check(source: str, told: str, amount: Amount, other_told: str, other: Amount) -> None:
    if amount != other:
        raise UnbalancedError(f"the ledger does not balance: of {source}, {amount} {told}, and {other} {other_told}")


def alarms(share: float, names: Sequence[str], flows: Sequence[Flow], shares: Sequence["Share"] = ()) -> list[Alarm]:
    """Every step that took more than this share of what a source had in the beginning, by source and step; then, by
    the amounts before and after, where all steps together did: of a source of which no single one did, of folders and
    of kinds."""
    tallies = tally(flows, lambda flow: (flow.source, flow.step))
    found = []
    for source in sorted({source for source, _ in tallies}):
        begun = tallies.get((source, names[0]), Tally()).came
        for name in names:
            step = tallies.get((source, name), Tally())
            documents = step.dropped.documents / max(begun.documents, 1)
            taken = step.taken_bytes / max(begun.bytes, 1)
            if max(documents, taken) > share:
                found.append(Alarm(source, name, documents, taken))
    reported = {alarm.source for alarm in found}
    wholes = {each.source: each.before for each in shares if each.facet == "all"}
    for facet, name in _NAMES.items():
        for each in (each for each in shares if each.facet == facet):
            documents, taken = _lost(each, each.before)
            is_reported = each.source not in reported if facet == "all" else _is_large_part(each, wholes[each.source])
            if is_reported and max(documents, taken) > share:
                found.append(Alarm(name.format(source=each.source, value=each.value), _ALL, documents, taken))
    return found


def _is_large_part(part: "Share", whole: Amount) -> bool:
    """Whether this is a part of a source, not all of it, that matters: by its documents, and by what it lost."""
    named = part.value and part.before != whole and part.before.documents >= _FEWEST
    return bool(named) and max(_lost(part, whole)) > _LEAST


def _lost(part: "Share", whole: Amount) -> tuple[float, float]:
    """The documents and the bytes that are gone, as shares of the whole."""
    documents, size = part.before.documents - part.after.documents, part.before.bytes - part.after.bytes
    return documents / max(whole.documents, 1), size / max(whole.bytes, 1)


def _sum(first: Amount, second: Amount) -> Amount:
    return Amount(first.documents + second.documents, first.bytes + second.bytes)
