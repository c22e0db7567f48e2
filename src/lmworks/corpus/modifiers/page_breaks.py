"""Pages of a text, and what belongs to the paper rather than to the text: running heads and feet, page numbers, breaks.

Pages are told by form feeds; in a text without any, by page numbers at regular distances. A number alone on a line
proves nothing: it may be a chapter, a verse or a table's cell. It is a page's where its neighbours count on. A line
goes only from the edge of a page, with all lines between it and the edge, and only if it recurs or counts with the
pages.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from statistics import median

import numpy as np
from rapidfuzz.distance import Levenshtein

from lmworks.corpus.dedup.kept_duplicates import linked
from lmworks.corpus.modifiers.footnotes import starts_note
from lmworks.corpus.modifiers.line_wraps import wrap_width
from lmworks.corpus.modifiers.text_lines import (
    HYPHENS,
    LABELS,
    ends_sentence,
    indentation,
    letters_of,
    roman_value,
    split_lines,
)
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_DEPTH = 2  # lines at either edge that may be a head or foot, and a number
_LONGEST = 100  # characters of such a line
_LONGEST_NOTES = 40  # lines that are looked back for the beginning of a footnote
_PARAGRAPH = 200  # characters of a line that is a paragraph, in a text that is not wrapped

_AHEAD = 4  # pages that are looked ahead: left and right pages differ, and where a chapter begins there is no head
_FEWEST = 3  # pages on which a line recurs
_SHORTEST = 6  # letters of a line that may differ by OCR errors
_DIFFERENT = 5  # one letter in so many may differ
PATTERNS = read_patterns(__file__, labels=LABELS)

_LONGEST_NUMBER = 40  # characters of a line with nothing but a page number
_LONGEST_HEAD = 80
_MISREAD = str.maketrans("lI|iOoSsBZz", "11110055822")
_STEP = 3  # pages whose number may be missing between two that have one
_FEWEST_NUMBERS = 4  # of a sequence that is inferred
_SEQUENCES = 8  # of numbers in one text, such as the volumes of a set
_SHORTEST_PAGE, _LONGEST_PAGE = 500, 8000  # characters
_OPEN_SHARE = 0.2  # of page breaks go through a sentence; section numbers never do

_Sides = tuple[list[int], list[int]]  # lines at the top of a page, and at its bottom


def find_pages(text: str) -> list[tuple[int, int]]:
    """(start, end) of each page in code points, end to end, a form feed in the page that it ends; all of a text without
    pages, and none of an empty one."""
    lines, starts = split_lines(text, "\n\f")
    bounds = [0, *(starts[line] for line in _page_starts(text, lines, starts)), len(text)]
    return [page for page in pairwise(bounds) if page[0] < page[1]]


def repair_pages(text: str) -> list[Edit]:
    """Cut running heads and feet, page numbers, and page breaks; a paragraph continues over a break.

    Rules: `page.head`, `page.foot`, `page.number`, and `page.break` for the form feed and the white space there.
    """
    lines, starts = split_lines(text, "\n\f")
    page_starts = _page_starts(text, lines, starts)
    if not page_starts:
        return []
    pages: list[_Sides] = []  # of each the filled lines at its top and at its bottom, from the outside in
    for first, end in pairwise([0, *page_starts, len(lines)]):
        filled = [line for line in range(first, end) if lines[line].strip()]
        top, bottom = filled[:_DEPTH], filled[: _DEPTH - 1 : -1][:_DEPTH]
        pages.append((top, bottom) if bottom else (top[:1], top[:0:-1]))  # the latter where that is all there is
    rules = _numbers(pages, lines)
    if "\f" not in text:  # each page was found by the line that ends it
        rules |= {start - 1: "page.number" if page_number(lines[start - 1]) else "page.head" for start in page_starts}
    rules |= _heads(pages, lines, rules)
    # A line goes only with all lines between it and the edge of its page.
    rules = {line: rules[line] for page in pages for side in page for line in takewhile(rules.__contains__, side)}

    def is_empty(line: int) -> bool:
        return line in rules or not lines[line].strip()

    edits: list[Edit] = []
    width = wrap_width(lines)
    done = -1  # lines before this one are dealt with, and the break before it
    for page_start in [0, *page_starts, len(lines)]:
        if page_start <= done:
            continue
        first = end = page_start
        while first > max(0, done) and is_empty(first - 1):
            first -= 1
        while end < len(lines) and is_empty(end):
            end += 1
        done = end
        at_end = page_start in (0, len(lines)) and "\f" not in text[starts[first] : starts[end]]
        if not at_end or any(line in rules for line in range(first, end)):  # else white space at the ends stays
            edits += _gap(text, lines, starts, first, end, width, rules)
    return edits


def _page_starts(text: str, lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The line with which each page but the first begins."""
    if "\f" in text:
        return [line for line in range(1, len(lines)) if text[starts[line] - 1] == "\f"]
    return [line + 1 for line in _inferred_page_ends(lines, starts) if line + 1 < len(lines)]


def _numbers(pages: Sequence[_Sides], lines: Sequence[str]) -> dict[int, str]:
    """Lines with numbers that count with the pages: on three of them at least, or on both of two. One that OCR may have
    seen as letters, such as "l2" for 12, is one where it is expected."""
    edges = [(page, line) for page, sides in enumerate(pages) for side in sides for line in side]
    found = {line: (number[0] - page, number[1]) for page, line in edges if (number := page_number(lines[line]))}
    offsets = Counter(key for _, key in {(page, found[line]) for page, line in edges if line in found})
    counting = {key for key, count in offsets.items() if count >= min(3, max(2, len(pages)))}
    read = [(page, line, lines[line].strip().translate(_MISREAD)) for page, line in edges]
    misread = {line: (int(bare) - page, False) for page, line, bare in read if re.fullmatch("[0-9]{1,4}", bare)}
    return {line: "page.number" for line, key in (misread | found).items() if key in counting}


# ---------------------------------------------------------------------------------------------------------------------
# What is put in the place of a break


def _gap(
    text: str, lines: Sequence[str], starts: Sequence[int], first: int, end: int, width: int, rules: dict[int, str]
) -> list[Edit]:
    """Edits that put a joint in the place of lines [first, end) and of the break before or behind them."""
    start = starts[first - 1] + len(lines[first - 1].rstrip()) if first else 0
    stop, joint = starts[end], ""
    if first and end == len(lines):
        joint = "\n" if text.endswith("\n") else ""
    elif first:
        joint = _joint(lines, first - 1, lines[end], width)
        stop += len(lines[end]) - len(lines[end].lstrip()) if joint == " " else 0
    bounds: list[tuple[int, str]] = []  # where each edit ends
    for line in range(first, end):
        if line in rules:
            bounds += [(starts[line], "page.break"), (min(starts[line + 1], stop), rules[line])]
    edits: list[Edit] = []
    for bound, rule in [*bounds, (stop, "page.break")]:
        if bound > start:
            edits.append(Edit(start, bound, "" if edits else joint, rule))
            start = bound
    return [edit for edit in edits if text[edit.start : edit.end] != edit.replacement]


def _joint(lines: Sequence[str], before: int, after: str, width: int) -> str:
    """The joint between the last line of a page and the first of the next: a line's end, a paragraph's, or a space."""
    block = takewhile(str.strip, (lines[at] for at in range(before, max(-1, before - _LONGEST_NOTES), -1)))
    if any(map(starts_note, block)):  # a footnote ends with its page
        return "\n\n"
    line, begins = lines[before].rstrip(), after.lstrip()[:1]
    if line[-1:] in HYPHENS and begins.isalpha():
        return "\n"
    full = len(line) >= 0.75 * width if width else len(line) >= _PARAGRAPH
    if not ends_sentence(line):
        return ("\n" if width else " ") if begins.islower() or full else "\n\n"
    starts_paragraph = indentation(after) > indentation(line) or begins in "\"'“‘«„—–-"
    return "\n" if width and full and not starts_paragraph else "\n\n"


# ---------------------------------------------------------------------------------------------------------------------
# Running heads and feet: lines at the edges of pages that recur a few pages on, up to page numbers and OCR errors


@dataclass(frozen=True, slots=True)
class _Edge:
    """A line near the edge of a page: the page, its number in the text, its letters, the numbers in it."""

    page: int
    line: int
    letters: str
    numbers: tuple[int, ...]
    pairs: frozenset[str]  # of neighbouring letters


def _heads(pages: Sequence[_Sides], lines: Sequence[str], numbers: dict[int, str]) -> dict[int, str]:
    rules: dict[int, str] = {}
    for side, rule in enumerate(("page.head", "page.foot")):
        edges: list[_Edge] = []
        for page, line in ((page, line) for page, sides in enumerate(pages) for line in sides[side]):
            if line not in numbers and len(text := lines[line]) <= _LONGEST:
                numerals = PATTERNS["numeral"].findall(text)
                values = tuple(int(each) if each.isdigit() else roman_value(each) or 0 for each in numerals)
                letters = letters_of(PATTERNS["numeral"].sub("", text))
                edges.append(_Edge(page, line, letters, values, frozenset(map("".join, pairwise(letters)))))
        for group in _recurring(edges):
            skipped = rule == "page.head" and _is_heading(group[0], lines, numbers)
            rules |= {each.line: rule for each in group[skipped:]}
    return rules


def _is_heading(first: _Edge, lines: Sequence[str], numbers: dict[int, str]) -> bool:
    """Whether the first of recurring lines stands where a heading stands: no sentence runs through."""

    def body(order: range) -> str:
        return next((lines[line] for line in order if lines[line].strip() and line not in numbers), "")

    before = body(range(first.line - 1, max(-1, first.line - 7), -1))
    after = body(range(first.line + 1, min(len(lines), first.line + 7)))
    return not first.numbers and ends_sentence(before) and not after.lstrip()[:1].islower()


def _recurring(edges: Sequence[_Edge]) -> Iterator[list[_Edge]]:
    """The running heads (or feet) among the edges of pages, in the order of these."""
    pairs = [
        (here, there)
        for here, edge in enumerate(edges)
        for there in range(here + 1, min(here + (_AHEAD + 1) * _DEPTH, len(edges)))
        if 0 < (apart := edges[there].page - edge.page) <= _AHEAD and _same_head(edge, edges[there], apart)
    ]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    groups: dict[int, list[_Edge]] = {}
    for edge, label in zip(edges, linked(first, second, len(edges)).tolist(), strict=True):
        groups.setdefault(label, []).append(edge)
    return (group for group in groups.values() if len({edge.page for edge in group}) >= _FEWEST)


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
    if shorter < _SHORTEST or 2 * len(one.pairs & other.pairs) < min(len(one.pairs), len(other.pairs)):
        return False
    limit = longer // _DIFFERENT
    return Levenshtein.distance(one.letters, other.letters, score_cutoff=limit) <= limit


# ---------------------------------------------------------------------------------------------------------------------
# Page numbers: what a line of one looks like, and which of them make a sequence over pages


def page_number(line: str) -> tuple[int, bool] | None:
    """(value, Roman or not) of the number of a line with nothing else but "Page", "of 9" and marks."""
    bare = line.strip()
    if not bare or len(bare) > _LONGEST_NUMBER or not (match := PATTERNS["number_line"].fullmatch(bare)):
        return None
    if match["arabic"]:
        return int(match["arabic"]), False
    value = roman_value(match["roman"])
    return None if value is None else (value, True)


def _inferred_page_ends(lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The lines that hold a page number, in order, of a text that has no form feeds: those of sequences that count up
    at regular distances, with sentences running through from page to page."""
    numbers = _number_lines(lines)
    ends: set[int] = set()
    for roman in (False, True):
        left = [(line, value) for line, (value, is_roman) in numbers if is_roman == roman]
        for _ in range(_SEQUENCES):
            chain = _longest_chain(left, starts)
            if len(chain) < _FEWEST_NUMBERS:
                break
            low, high = chain[0][0], chain[-1][0]
            if _is_paging(chain, lines, starts):
                ends |= {line for line, _ in chain}
                left = [number for number in left if not low <= number[0] <= high]
            else:
                left = [number for number in left if number not in chain]
    return sorted(ends)


def _number_lines(lines: Sequence[str]) -> list[tuple[int, tuple[int, bool]]]:
    """(line, number) of numbers alone on their lines, and of those in heads that recur."""
    found: dict[int, tuple[int, bool]] = {}
    heads: dict[int, str] = {}
    for position, line in enumerate(lines):
        bare = line.strip() if len(line) <= 2 * _LONGEST_HEAD else ""
        if number := page_number(bare):
            found[position] = number
        elif bare and len(bare) <= _LONGEST_HEAD and (bare[0].isdigit() or bare[-1].isdigit()):
            match = PATTERNS["head_number"].fullmatch(bare)
            if match and not PATTERNS["heading"].fullmatch(bare):
                found[position], heads[position] = (int(match["before"] or match["after"]), False), letters_of(bare)
    counts = Counter(heads.values())
    single = {line for line, letters in heads.items() if not letters or counts[letters] < _FEWEST_NUMBERS}
    return [(line, number) for line, number in found.items() if line not in single]


def _longest_chain(numbers: Sequence[tuple[int, int]], starts: Sequence[int]) -> list[tuple[int, int]]:
    """The longest run of (line, value) in which values go up by 1 to `_STEP`, a page's length for each."""
    lengths, before = [1] * len(numbers), [-1] * len(numbers)  # of the best chain to a number
    latest: dict[int, int] = {}  # value -> the number that ends the best chain there
    for index, (line, value) in enumerate(numbers):
        for step in range(1, _STEP + 1):
            if (other := latest.get(value - step)) is not None:
                gap = (starts[line] - starts[numbers[other][0]]) / step
                if _SHORTEST_PAGE / 2 <= gap <= 2 * _LONGEST_PAGE and lengths[other] >= lengths[index]:
                    lengths[index], before[index] = lengths[other] + 1, other
        known = latest.get(value)
        # Of two as good ones the nearer begins a page sooner, and one that is far away none can follow.
        if (
            known is None
            or lengths[index] > lengths[known]
            or lengths[known] == 1
            or starts[line] - starts[numbers[known][0]] > 2 * _STEP * _LONGEST_PAGE
        ):
            latest[value] = index
    at = max(range(len(numbers)), key=lengths.__getitem__, default=-1)
    chain: list[tuple[int, int]] = []
    while at >= 0:
        chain.append(numbers[at])
        at = before[at]
    return chain[::-1]


def _is_paging(chain: Sequence[tuple[int, int]], lines: Sequence[str], starts: Sequence[int]) -> bool:
    gaps = [(starts[line] - starts[before]) / (value - earlier) for (before, earlier), (line, value) in pairwise(chain)]
    usual = median(gaps)
    even = sum(0.6 * usual <= gap <= 1.5 * usual for gap in gaps)
    open_ends = 0
    for line, _ in chain:  # the nearest line before that has small letters is no running head in capitals
        above = (lines[before] for before in range(line - 1, max(-1, line - 9), -1))
        open_ends += not ends_sentence(next((line for line in above if any(map(str.islower, line))), ""))
    is_even = _SHORTEST_PAGE <= usual <= _LONGEST_PAGE and even >= 0.7 * len(gaps)
    return is_even and open_ends >= max(1.0, _OPEN_SHARE * len(chain))
