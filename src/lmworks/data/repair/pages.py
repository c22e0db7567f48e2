"""Pages of a text, and what belongs to the paper rather than to the text: running heads and feet, page numbers, breaks.

Pages are told by form feeds; in a text without any, by page numbers at regular distances. A line goes only from the
edge of a page, with all lines between it and the edge, and only if it recurs or counts with the pages.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmworks.data.repair.footnotes import starts_note
from lmworks.data.repair.layout import HYPHENS, ends_sentence, indentation, split_page_lines
from lmworks.data.repair.lines import wrap_width
from lmworks.data.repair.page_edges import Edge, edge, recurring
from lmworks.data.repair.page_numbers import (
    PageNumber,
    counting_offsets,
    inferred_page_ends,
    misread_number,
    page_number,
)
from lmworks.records import Edit

_DEPTH = 2  # lines at either edge that may be a head or foot, and a number
_LONGEST = 100  # characters of such a line
_LONGEST_NOTES = 40  # lines that are looked back for the beginning of a footnote
_PARAGRAPH = 200  # characters of a line that is a paragraph, in a text that is not wrapped


@dataclass(frozen=True, slots=True)
class Page:
    """Half-open, in code points; pages lie end to end and cover the text. A form feed belongs to the page it ends."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A page as lines [first, end), and its edges from the outside in."""

    first: int
    end: int
    top: tuple[int, ...]
    bottom: tuple[int, ...]


def find_pages(text: str) -> list[Page]:
    """The pages of a text, all of it where nothing tells them; none of an empty text."""
    lines, starts = split_page_lines(text)
    bounds = [0, *(starts[line] for line in _page_starts(text, lines, starts)), len(text)]
    return [Page(start, end) for start, end in pairwise(bounds) if start < end]


def repair_pages(text: str) -> list[Edit]:
    """Cut running heads and feet, page numbers, and page breaks; a paragraph goes on over a break.

    Rules: `page.head`, `page.foot`, `page.number`, and `page.break` for the form feed and the white space there.
    """
    lines, starts = split_page_lines(text)
    page_starts = _page_starts(text, lines, starts)
    if not page_starts:
        return []
    leaves = _leaves(lines, page_starts)
    rules = _numbers(leaves, lines)
    if "\f" not in text:  # each page was found by the line that ends it
        rules |= {start - 1: "page.number" if page_number(lines[start - 1]) else "page.head" for start in page_starts}
    rules |= _heads(leaves, lines, rules)
    rules = _outermost(rules, leaves)
    return _edits(text, lines, starts, page_starts, rules)


def _page_starts(text: str, lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The line with which each page but the first begins."""
    if "\f" not in text:
        return [line + 1 for line in inferred_page_ends(lines, starts) if line + 1 < len(lines)]
    found: list[int] = []
    position = text.find("\f")
    while position >= 0:
        found.append(bisect_left(starts, position + 1, hi=len(lines)))
        position = text.find("\f", position + 1)
    return [line for line in found if line < len(lines)]


def _leaves(lines: Sequence[str], page_starts: Sequence[int]) -> list[_Leaf]:
    bounds = [0, *page_starts, len(lines)]
    return [_leaf(lines, first, end) for first, end in pairwise(bounds)]


def _leaf(lines: Sequence[str], first: int, end: int) -> _Leaf:
    top: list[int] = []
    bottom: list[int] = []
    for line in range(first, end):
        if lines[line].strip():
            top.append(line)
            if len(top) == _DEPTH:
                break
    for line in range(end - 1, top[-1] if top else end - 1, -1):
        if lines[line].strip():
            bottom.append(line)
            if len(bottom) == _DEPTH:
                break
    if top and not bottom:  # all there is on this page
        bottom = top[:0:-1]
        top = top[:1]
    return _Leaf(first, end, tuple(top), tuple(bottom))


def _numbers(leaves: Sequence[_Leaf], lines: Sequence[str]) -> dict[int, str]:
    found: list[tuple[int, int, PageNumber]] = []
    others: list[tuple[int, int]] = []
    for page, leaf in enumerate(leaves):
        for line in (*leaf.top, *leaf.bottom):
            if number := page_number(lines[line]):
                found.append((page, line, number))
            else:
                others.append((page, line))
    offsets = counting_offsets([(page, number) for page, _, number in found], len(leaves))
    rules = {line: "page.number" for page, line, number in found if (number.value - page, number.roman) in offsets}
    if offsets:
        for page, line in others:
            number = misread_number(lines[line])
            if number is not None and (number - page, False) in offsets:
                rules[line] = "page.number"
    return rules


def _heads(leaves: Sequence[_Leaf], lines: Sequence[str], numbers: dict[int, str]) -> dict[int, str]:
    rules: dict[int, str] = {}
    for rule, sides in (("page.head", [leaf.top for leaf in leaves]), ("page.foot", [leaf.bottom for leaf in leaves])):
        edges = [
            [edge(line, lines[line]) for line in side if line not in numbers and len(lines[line]) <= _LONGEST]
            for side in sides
        ]
        for group in recurring(edges):
            first = group[0][1]
            skipped = 1 if rule == "page.head" and _is_heading(first, lines, numbers) else 0
            rules |= {each.line: rule for _, each in group[skipped:]}
    return rules


def _is_heading(first: Edge, lines: Sequence[str], numbers: dict[int, str]) -> bool:
    """Whether the first of recurring lines stands where a heading stands: no sentence runs through."""
    if first.numbers:
        return False
    before = _first_body(lines, range(first.line - 1, max(-1, first.line - 7), -1), numbers)
    after = _first_body(lines, range(first.line + 1, min(len(lines), first.line + 7)), numbers)
    return ends_sentence(before) and not after.lstrip()[:1].islower()


def _first_body(lines: Sequence[str], order: range, numbers: dict[int, str]) -> str:
    return next((lines[line] for line in order if lines[line].strip() and line not in numbers), "")


def _outermost(rules: dict[int, str], leaves: Sequence[_Leaf]) -> dict[int, str]:
    """What is left when a line goes only with all lines between it and the edge of its page."""
    kept: dict[int, str] = {}
    for leaf in leaves:
        for side in (leaf.top, leaf.bottom):
            for line in side:
                if line not in rules:
                    break
                kept[line] = rules[line]
    return kept


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
