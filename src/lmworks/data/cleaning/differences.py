"""Where two texts that are alike differ, so that a person sees what a duplicate has that its twin has not."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lmworks.excerpts import Piece, Place, marked

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_MOST_LINES = 4_000  # that are compared; of longer texts the beginning
_MOST_TOKENS = 2_000  # of a place that is compared word by word
_NEAR = 200  # characters between differences that are shown in one excerpt


@dataclass(frozen=True, slots=True)
class Difference:
    """`[start, end)` of the first text stands where `[other_start, other_end)` of the second does; code points."""

    start: int
    end: int
    other_start: int
    other_end: int


def differences(first: str, second: str) -> Iterator[Difference]:
    """In order; none for equal texts. Lines are compared first (Ratcliff and Metzener 1988, as difflib does it), then
    the words of those that differ. Of texts of more than 4,000 lines the rest is compared as a whole."""
    a, b = _lines(first), _lines(second)
    starts, other_starts = _starts(a), _starts(b)
    for tag, low, high, other_low, other_high in SequenceMatcher(None, a, b).get_opcodes():
        if tag != "equal":
            place = Difference(starts[low], starts[high], other_starts[other_low], other_starts[other_high])
            yield from _by_words(first, second, place)


def side_by_side(
    first: str, second: str, context: int = 120, most: int = 700, excerpts: int = 2
) -> list[tuple[tuple[Piece, ...], tuple[Piece, ...]]]:
    """The first places in which two texts differ: what only the first has as `removed`, what only the second has as
    `added`; up to `most` characters each."""
    found = []
    for group in _groups(differences(first, second)):
        if len(found) == excerpts:
            break
        low, other_low = group[0].start, group[0].other_start
        high = min(group[-1].end, low + most)
        other_high = min(group[-1].other_end, other_low + most)
        places = [Place(each.start, each.end, change="removed") for each in group]
        others = [Place(each.other_start, each.other_end, change="added") for each in group]
        found.append(
            (
                marked(first, places, low - context, high + context, most),
                marked(second, others, other_low - context, other_high + context, most),
            )
        )
    return found


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    kept = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    return kept if len(kept) <= _MOST_LINES else [*kept[:_MOST_LINES], "".join(kept[_MOST_LINES:])]


def _starts(parts: Sequence[str]) -> list[int]:
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))
    return starts


def _by_words(first: str, second: str, place: Difference) -> Iterator[Difference]:
    one, other = first[place.start : place.end], second[place.other_start : place.other_end]
    a, b = _TOKEN.findall(one), _TOKEN.findall(other)
    if not a or not b or max(len(a), len(b)) > _MOST_TOKENS:
        yield _trimmed(one, other, place)
        return
    starts, other_starts = _starts(a), _starts(b)
    for tag, low, high, other_low, other_high in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            yield Difference(
                place.start + starts[low],
                place.start + starts[high],
                place.other_start + other_starts[other_low],
                place.other_start + other_starts[other_high],
            )


def _trimmed(one: str, other: str, place: Difference) -> Difference:
    """Without what both begin and end with."""
    shorter = min(len(one), len(other))
    before = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    after = next((at for at in range(shorter - before) if one[-1 - at] != other[-1 - at]), shorter - before)
    return Difference(place.start + before, place.end - after, place.other_start + before, place.other_end - after)


def _groups(found: Iterable[Difference]) -> Iterator[list[Difference]]:
    """Those that stand close together, which one excerpt shows."""
    group: list[Difference] = []
    for each in found:
        if group and each.start - group[-1].end > _NEAR:
            yield group
            group = []
        group.append(each)
    if group:
        yield group
