"""Pages of a text, and what belongs to the paper rather than to the text: running heads and feet, page numbers, breaks.

Pages are told by form feeds; in a text without any, by page numbers at regular distances. A line goes only from the
edge of a page, with all lines between it and the edge, and only if it recurs or counts with the pages.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile

from lmworks.corpus.modifiers.footnotes import starts_note
from lmworks.corpus.modifiers.line_wraps import wrap_width
from lmworks.corpus.modifiers.page_layout import (
    HYPHENS,
    ends_sentence,
    indentation,
    letters_of,
    roman_value,
    split_lines,
)
from lmworks.corpus.modifiers.page_numbers import inferred_page_ends, misread_number, page_number
from lmworks.records import Edit

_DEPTH = 2  # lines at either edge that may be a head or foot, and a number
_LONGEST = 100  # characters of such a line
_LONGEST_NOTES = 40  # lines that are looked back for the beginning of a footnote
_PARAGRAPH = 200  # characters of a line that is a paragraph, in a text that is not wrapped

_AHEAD = 4  # pages that are looked ahead: left and right pages differ, and where a chapter begins there is no head
_FEWEST = 3  # pages on which a line recurs
_SHORTEST = 6  # letters of a line that may differ by OCR errors
_DIFFERENT = 5  # one letter in so many may differ
_NUMERAL = re.compile(r"\b(?:[0-9]+|[IVXLCDM]+)\b")

_Sides = tuple[list[int], list[int]]  # lines at the top of a page, and at its bottom


def find_pages(text: str) -> list[tuple[int, int]]:
    """(start, end) of each page in code points, end to end, a form feed in the page that it ends; all of a text without
    pages, and none of an empty one."""
    lines, starts = split_lines(text, "\n\f")
    bounds = [0, *(starts[line] for line in _page_starts(text, lines, starts)), len(text)]
    return [page for page in pairwise(bounds) if page[0] < page[1]]


def repair_pages(text: str) -> list[Edit]:
    """Cut running heads and feet, page numbers, and page breaks; a paragraph goes on over a break.

    Rules: `page.head`, `page.foot`, `page.number`, and `page.break` for the form feed and the white space there.
    """
    lines, starts = split_lines(text, "\n\f")
    page_starts = _page_starts(text, lines, starts)
    if not page_starts:
        return []
    pages = [_edges_of(lines, first, end) for first, end in pairwise([0, *page_starts, len(lines)])]
    rules = _numbers(pages, lines)
    if "\f" not in text:  # each page was found by the line that ends it
        rules |= {start - 1: "page.number" if page_number(lines[start - 1]) else "page.head" for start in page_starts}
    rules |= _heads(pages, lines, rules)
    # A line goes only with all lines between it and the edge of its page.
    rules = {line: rules[line] for page in pages for side in page for line in takewhile(rules.__contains__, side)}
    return _edits(text, lines, starts, page_starts, rules)


def _page_starts(text: str, lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The line with which each page but the first begins."""
    if "\f" in text:
        return [line for line in range(1, len(lines)) if text[starts[line] - 1] == "\f"]
    return [line + 1 for line in inferred_page_ends(lines, starts) if line + 1 < len(lines)]


def _edges_of(lines: Sequence[str], first: int, end: int) -> _Sides:
    """The filled lines at the top of the page [first, end) and at its bottom, from the outside in."""
    filled = [line for line in range(first, end) if lines[line].strip()]
    top, bottom = filled[:_DEPTH], filled[: _DEPTH - 1 : -1][:_DEPTH]
    if not bottom:  # all there is on this page
        top, bottom = top[:1], top[:0:-1]
    return top, bottom


def _numbers(pages: Sequence[_Sides], lines: Sequence[str]) -> dict[int, str]:
    """Lines with numbers that count with the pages: on three of them at least, or on both of two."""
    edges = [(page, line) for page, sides in enumerate(pages) for side in sides for line in side]
    found = {line: (number[0] - page, number[1]) for page, line in edges if (number := page_number(lines[line]))}
    offsets = Counter(key for _, key in {(page, found[line]) for page, line in edges if line in found})
    counting = {key for key, count in offsets.items() if count >= min(3, max(2, len(pages)))}
    misread = {line: (value - page, False) for page, line in edges if (value := misread_number(lines[line])) >= 0}
    return {line: "page.number" for line, key in (misread | found).items() if key in counting}


def _edits(
    text: str, lines: Sequence[str], starts: Sequence[int], page_starts: Sequence[int], rules: dict[int, str]
) -> list[Edit]:
    edits: list[Edit] = []
    width = wrap_width(lines)
    done = -1  # lines before this one are dealt with, and the break before it
    for page_start in [0, *page_starts, len(lines)]:
        if page_start <= done:
            continue
        first = end = page_start
        while first > max(0, done) and _is_empty(first - 1, lines, rules):
            first -= 1
        while end < len(lines) and _is_empty(end, lines, rules):
            end += 1
        done = end
        at_end = page_start in (0, len(lines)) and "\f" not in text[starts[first] : starts[end]]
        if at_end and not any(line in rules for line in range(first, end)):
            continue  # white space at the ends of the text stays
        edits += _gap(text, lines, starts, first, end, width, rules)
    return edits


def _is_empty(line: int, lines: Sequence[str], rules: dict[int, str]) -> bool:
    return line in rules or not lines[line].strip()


def _gap(
    text: str, lines: Sequence[str], starts: Sequence[int], first: int, end: int, width: int, rules: dict[int, str]
) -> list[Edit]:
    """Edits that put a joint in the place of lines [first, end) and of the break before or behind them."""
    start = starts[first - 1] + len(lines[first - 1].rstrip()) if first else 0
    stop = starts[end]
    if not first:
        joint = ""
    elif end == len(lines):
        joint = "\n" if text.endswith("\n") else ""
    else:
        joint = _joint(lines, first - 1, lines[end], width)
        if joint == " ":
            stop += len(lines[end]) - len(lines[end].lstrip())
    edits: list[Edit] = []
    position = start

    def cut(until: int, rule: str) -> None:
        nonlocal position
        if until > position:
            edits.append(Edit(position, until, "" if edits else joint, rule))
            position = until

    for line in range(first, end):
        if line in rules:
            cut(starts[line], "page.break")
            cut(min(starts[line + 1], stop), rules[line])
    cut(stop, "page.break")
    return [edit for edit in edits if text[edit.start : edit.end] != edit.replacement]


def _joint(lines: Sequence[str], before: int, after: str, width: int) -> str:
    """What goes between the last line of a page and the first of the next: a line's end, a paragraph's, or a space."""
    line = lines[before].rstrip()
    if _in_note(lines, before):
        return "\n\n"
    begins = after.lstrip()[:1]
    if line[-1:] in HYPHENS and begins.isalpha():
        return "\n"
    full = len(line) >= 0.75 * width if width else len(line) >= _PARAGRAPH
    if not ends_sentence(line):
        return ("\n" if width else " ") if begins.islower() or full else "\n\n"
    starts_paragraph = indentation(after) > indentation(line) or begins in "\"'“‘«„—–-"
    return "\n" if width and full and not starts_paragraph else "\n\n"


def _in_note(lines: Sequence[str], line: int) -> bool:
    """Whether the block that ends with this line holds the beginning of a footnote, which ends with its page."""
    for at in range(line, max(-1, line - _LONGEST_NOTES), -1):
        if not lines[at].strip():
            return False
        if starts_note(lines[at]):
            return True
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Running heads and feet: lines at the edges of pages that recur a few pages on, up to page numbers and OCR errors


@dataclass(frozen=True, slots=True)
class _Edge:
    """A line near the edge of a page: its number in the text, its letters, the numbers in it."""

    line: int
    letters: str
    numbers: tuple[int, ...]
    pairs: frozenset[str]  # of neighbouring letters


def _edge(line: int, text: str) -> _Edge:
    numbers = tuple(int(each) if each.isdigit() else roman_value(each) or 0 for each in _NUMERAL.findall(text))
    letters = letters_of(_NUMERAL.sub("", text))
    return _Edge(line, letters, numbers, frozenset(map("".join, pairwise(letters))))


def _heads(pages: Sequence[_Sides], lines: Sequence[str], numbers: dict[int, str]) -> dict[int, str]:
    rules: dict[int, str] = {}
    for side, rule in enumerate(("page.head", "page.foot")):
        edges = [
            [_edge(line, lines[line]) for line in page[side] if line not in numbers and len(lines[line]) <= _LONGEST]
            for page in pages
        ]
        for group in _recurring(edges):
            first = group[0][1]
            skipped = 1 if rule == "page.head" and _is_heading(first, lines, numbers) else 0
            rules |= {each.line: rule for _, each in group[skipped:]}
    return rules


def _is_heading(first: _Edge, lines: Sequence[str], numbers: dict[int, str]) -> bool:
    """Whether the first of recurring lines stands where a heading stands: no sentence runs through."""
    if first.numbers:
        return False
    before = _first_body(lines, range(first.line - 1, max(-1, first.line - 7), -1), numbers)
    after = _first_body(lines, range(first.line + 1, min(len(lines), first.line + 7)), numbers)
    return ends_sentence(before) and not after.lstrip()[:1].islower()


def _first_body(lines: Sequence[str], order: range, numbers: dict[int, str]) -> str:
    return next((lines[line] for line in order if lines[line].strip() and line not in numbers), "")


def _same_head(one: _Edge, other: _Edge, apart: int) -> bool:
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


def _recurring(pages: Sequence[Sequence[_Edge]]) -> Iterator[list[tuple[int, _Edge]]]:
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
                    if a != b and _same_head(one, other, apart):
                        parents[max(a, b)] = min(a, b)
    groups: dict[int, list[tuple[int, _Edge]]] = {}
    for index, each in enumerate(numbered):
        groups.setdefault(root(index), []).append(each)
    for group in groups.values():
        if len({page for page, _ in group}) >= _FEWEST:
            yield group
