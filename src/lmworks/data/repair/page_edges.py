"""Running heads and feet: lines at the edges of pages that recur a few pages on, up to page numbers and OCR errors."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from lmworks.data.repair.layout import letters_of, roman_value

_AHEAD = 4  # pages that are looked ahead: left and right pages differ, and where a chapter begins there is no head
_FEWEST = 3  # pages on which a line recurs
_SHORTEST = 6  # letters of a line that may differ by OCR errors
_DIFFERENT = 5  # one letter in so many may differ
_NUMERAL = re.compile(r"\b(?:[0-9]+|[IVXLCDM]+)\b")


@dataclass(frozen=True, slots=True)
class Edge:
    """A line near the edge of a page: its number in the text, its letters, the numbers in it."""

    line: int
    letters: str
    numbers: tuple[int, ...]
    pairs: frozenset[str]  # of neighbouring letters


def edge(line: int, text: str) -> Edge:
    numbers = tuple(int(each) if each.isdigit() else roman_value(each) or 0 for each in _NUMERAL.findall(text))
    letters = letters_of(_NUMERAL.sub("", text))
    return Edge(line, letters, numbers, frozenset(map("".join, pairwise(letters))))


def same_head(one: Edge, other: Edge, apart: int) -> bool:
    """Whether two lines that are `apart` pages from each other are one running head.

    Numbers in them are the same (of a chapter) or go up with the pages. So headings of chapters, which begin with a
    page as well, are not taken for one: "CHAPTER 2" and "CHAPTER 3" stand more than a page apart.
    """
    if len(one.numbers) != len(other.numbers) or not one.letters or not other.letters:
        return False
    if any(after - before not in (0, apart) for before, after in zip(one.numbers, other.numbers, strict=True)):
        return False
    if one.letters == other.letters:
        return True
    shorter, longer = sorted((len(one.letters), len(other.letters)))
    limit = longer // _DIFFERENT
    if shorter < _SHORTEST or longer - shorter > limit:
        return False
    if 2 * len(one.pairs & other.pairs) < min(len(one.pairs), len(other.pairs)):
        return False
    return within_distance(one.letters, other.letters, limit)


def within_distance(one: str, other: str, limit: int) -> bool:
    """Whether the Levenshtein distance is at most `limit`; only the band of cells that can be is filled (Ukkonen
    1985)."""
    if abs(len(one) - len(other)) > limit:
        return False
    far = limit + 1
    before = [column if column <= limit else far for column in range(len(other) + 1)]
    for row, letter in enumerate(one, start=1):
        first, last = max(1, row - limit), min(len(other), row + limit)
        now = [far] * (len(other) + 1)
        now[0] = min(row, far)
        for column in range(first, last + 1):
            now[column] = min(
                before[column - 1] + (letter != other[column - 1]), before[column] + 1, now[column - 1] + 1, far
            )
        if min(now[max(0, first - 1) : last + 1]) > limit:
            return False
        before = now
    return before[len(other)] <= limit


def recurring(pages: Sequence[Sequence[Edge]]) -> Iterator[list[tuple[int, Edge]]]:
    """The running heads (or feet) among the edges of pages: for each, (page, edge) in order."""
    numbered = [(page, each) for page, edges in enumerate(pages) for each in edges]
    first = list(accumulate(map(len, pages), initial=0))  # where the edges of a page begin in `numbered`
    parents = list(range(len(numbered)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for page, edges in enumerate(pages):
        for apart in range(1, min(_AHEAD, len(pages) - 1 - page) + 1):
            for here, one in enumerate(edges, start=first[page]):
                for there, other in enumerate(pages[page + apart], start=first[page + apart]):
                    a, b = root(here), root(there)
                    if a != b and same_head(one, other, apart):
                        parents[max(a, b)] = min(a, b)
    groups: dict[int, list[tuple[int, Edge]]] = {}
    for index, each in enumerate(numbered):
        groups.setdefault(root(index), []).append(each)
    for group in groups.values():
        if len({page for page, _ in group}) >= _FEWEST:
            yield group
