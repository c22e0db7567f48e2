"""Where two texts that are alike differ, so that a person sees what a duplicate has that its twin has not."""

import re
from difflib import SequenceMatcher

from lmworks.excerpts import Piece, Place, marked

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_MOST = 2_000  # tokens that are compared, from the first that differs
_NEAR = 200  # characters between differences that are shown in one excerpt


def side_by_side(
    first: str, second: str, context: int = 120, most: int = 700, excerpts: int = 2
) -> list[tuple[tuple[Piece, ...], tuple[Piece, ...]]]:
    """The first places in which two texts differ: what only the first has as `removed`, what only the second has as
    `added`; up to `most` characters each. None for equal texts."""
    groups: list[list[tuple[int, int, int, int]]] = []
    for place in _differences(first, second):
        if not groups or place[0] - groups[-1][-1][1] > _NEAR:
            groups.append([])
        groups[-1].append(place)
    found = []
    for group in groups[:excerpts]:
        removed = [Place(start, end, change="removed") for start, end, _, _ in group]
        added = [Place(start, end, change="added") for _, _, start, end in group]
        found.append((_excerpt(first, removed, context, most), _excerpt(second, added, context, most)))
    return found


def _excerpt(text: str, places: list[Place], context: int, most: int) -> tuple[Piece, ...]:
    start = places[0].start
    return marked(text, places, start - context, min(places[-1].end, start + most) + context, most)


def _differences(first: str, second: str) -> list[tuple[int, int, int, int]]:
    """`[start, end)` of the first text stands where that of the second does, which follows; by words (Ratcliff and
    Metzener 1988, as difflib does it)."""
    if first == second:
        return []
    a, b = _TOKEN.findall(first), _TOKEN.findall(second)
    same = next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))
    begin = len("".join(a[:same]))
    a, b = a[same:], b[same:]
    cut_short = max(len(a), len(b)) > _MOST
    a, b = a[:_MOST], b[:_MOST]
    starts, other_starts = _starts(a, begin), _starts(b, begin)
    found = [
        (starts[low], starts[high], other_starts[other_low], other_starts[other_high])
        for tag, low, high, other_low, other_high in SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    return found[:-1] if cut_short and len(found) > 1 else found  # the last one may be the end of what is compared


def _starts(parts: list[str], begin: int) -> list[int]:
    starts = [begin]
    for part in parts:
        starts.append(starts[-1] + len(part))
    return starts
