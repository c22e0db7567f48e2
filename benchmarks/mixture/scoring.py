"""What became of what was planted, and of what is harmless: by comparing texts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from mixture.cleaned import Cleaned
from mixture.planting import ORIGINALS, PLANTED, Defect, Harmless, windows, words

_WINDOW, _ERASED = 4, 6  # words


class Comparable:
    """A half of the mixture, with the words of its documents; what a file holds has the file's name before its own."""

    def __init__(self, cleaned: Cleaned) -> None:
        self.cleaned = cleaned
        self._members: dict[str, list[str]] = defaultdict(list)
        for uri in cleaned.texts:
            for parent in (uri, *map(str, PurePosixPath(uri).parents)):
                self._members[parent].append(uri)
        self._words: dict[str, list[str]] = {}
        self._windows: dict[tuple[str, int], set[tuple[str, ...]]] = {}

    def documents(self, uri: str) -> list[str]:
        return self._members.get(uri, [])

    def text(self, uri: str) -> str:
        return "\n".join(self.cleaned.texts[each] for each in self.documents(uri))

    def windows(self, uri: str, size: int) -> set[tuple[str, ...]]:
        if uri not in self._words:
            self._words[uri] = words(self.text(uri))
        if (uri, size) not in self._windows:
            self._windows[uri, size] = windows(self._words[uri], size)
        return self._windows[uri, size]

    def holds(self, uri: str, text: str) -> bool:
        found = words(text)
        return tuple(found) in self.windows(uri, len(found)) if found else text in self.text(uri)

    @cached_property
    def accounted(self) -> set[str]:
        """Every file that is named among the cleaned, the dropped or the left out, itself or as part of a name."""
        named = {*self.cleaned.texts, *self.cleaned.reasons, *self.cleaned.rejected}
        return {str(each) for uri in named for each in (PurePosixPath(uri), *PurePosixPath(uri).parents)}


@dataclass
class Row:
    """A class: defects that were planted, and those caught; harmless words, and those taken, of both halves."""

    planted: int = 0
    caught: int = 0
    dropped: int = 0  # of those caught, with all of their document
    harmless: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)  # samples
    wrong: list[str] = field(default_factory=list)


def score(
    defects: Sequence[Defect], harmless: Iterable[Harmless], halves: Mapping[str, Cleaned], samples: int
) -> dict[str, Row]:
    """Class → what became of it, with so many samples of each kind of error."""
    compared = {half: Comparable(cleaned) for half, cleaned in halves.items()}
    rows: dict[str, Row] = defaultdict(Row)
    for defect, planted, caught in _outcomes(defects, compared[PLANTED]):
        row = rows[defect.kind]
        row.planted += planted
        row.caught += caught
        if defect.expect not in ("gone", "fewer", "once", "accounted") and not compared[PLANTED].documents(defect.uri):
            row.dropped += caught
        if caught < planted and len(row.missed) < samples:
            row.missed.append(f"{defect.uri} [{defect.where}] {defect.expect}: {defect.text[:120]!r}")
    for each in harmless:
        _count_harm(each, compared[each.build], rows[each.kind], samples)
    return dict(rows)


def _outcomes(defects: Sequence[Defect], half: Comparable) -> Iterable[tuple[Defect, int, int]]:
    """(defect, how many it is, how many of them were caught)."""
    groups: dict[tuple[str, str, str], list[Defect]] = defaultdict(list)
    for defect in defects:
        if defect.expect in ("fewer", "once"):
            groups[defect.kind, defect.expect, defect.text].append(defect)
        elif defect.expect == "fewer_lines":
            yield from _lines(defect, half)
        else:
            yield defect, 1, int(_is_caught(defect, half))
    for (_, expect, text), group in groups.items():
        left = [
            each for each in group if (half.documents(each.uri) if expect == "fewer" else half.holds(each.uri, text))
        ]
        yield (left or group)[-1], len(group) - 1, len(group) - max(1, len(left))


def _is_caught(defect: Defect, half: Comparable) -> bool:
    match defect.expect:
        case "restored":
            return half.holds(defect.uri, defect.text)
        case "absent":
            return not half.holds(defect.uri, defect.text)
        case "erased":
            found = words(defect.text)
            size = min(_ERASED, len(found))
            return not windows(found, size) & half.windows(defect.uri, size)
        case "gone":
            return not half.documents(defect.uri)
        case "language":
            return [half.cleaned.languages[each] for each in half.documents(defect.uri)] == [defect.text]
        case _:
            return defect.uri in half.accounted


def _lines(defect: Defect, half: Comparable) -> Iterable[tuple[Defect, int, int]]:
    """`text` is the number of lines that were planted, and the pattern of those."""
    number, _, pattern = defect.text.partition(" ")
    left = len(re.findall(pattern, half.text(defect.uri), re.M))
    yield defect, int(number), max(0, int(number) - left)


def _count_harm(harmless: Harmless, half: Comparable, row: Row, samples: int) -> None:
    """A word is taken where no run of four words of its line that holds it is in the document any more."""
    taken: list[str] = []
    for line in harmless.text.split("\n"):
        found = words(line)
        size = min(_WINDOW, len(found))
        there = half.windows(harmless.uri, size) if found else set()
        stays = [False] * len(found)
        for at in range(len(found) - size + 1):
            if tuple(found[at : at + size]) in there:
                stays[at : at + size] = [True] * size
        row.harmless[harmless.build] += len(found)
        taken += [word for word, kept in zip(found, stays, strict=True) if not kept]
    row.taken[harmless.build] += len(taken)
    if taken and len(row.wrong) < samples:
        whole = f"{len(taken)} words: {' '.join(taken[:18])}" if half.documents(harmless.uri) else "all of it"
        row.wrong.append(f"{harmless.build}/{harmless.uri}: {whole} {half.cleaned.reasons.get(harmless.uri, '')}")


def table(rows: Mapping[str, Row]) -> str:
    """Classes in the order of their names; of words that are harmless the share that was taken, of both halves."""
    header = (
        "class", "planted", "caught", "missed", "caught, %", "by dropping",
        "harmless words", "taken", "taken, %", "taken beside, %",
    )  # fmt: skip
    lines = [header, *(_cells(kind, row) for kind, row in sorted(rows.items()))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def _cells(kind: str, row: Row) -> tuple[str, ...]:
    found = ("",) * 4
    if row.planted:
        numbers = (row.planted, row.caught, row.planted - row.caught)
        found = (*(f"{number:,}" for number in numbers), f"{100 * row.caught / row.planted:.1f}")
    dropped = f"{row.dropped:,}" if row.dropped else ""
    harmless, beside = row.harmless[ORIGINALS], row.harmless[PLANTED]
    taken = row.taken[ORIGINALS]
    of_originals = (f"{harmless:,}", f"{taken:,}", f"{100 * taken / harmless:.2f}") if harmless else ("",) * 3
    return (kind, *found, dropped, *of_originals, f"{100 * row.taken[PLANTED] / beside:.2f}" if beside else "")
