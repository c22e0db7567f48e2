"""Page numbers: what a line of one looks like, and which of them make a sequence over pages.

A number alone on a line proves nothing: it may be a chapter, a verse or a table's cell. It is a page's number where
its neighbours count on: by one a page where form feeds tell the pages, or at regular distances where nothing does.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from lmworks.corpus.modifiers.page_layout import LABELS, ends_sentence, letters_of, roman_value

_LONGEST_NUMBER = 40  # characters of a line with nothing but a page number
_LONGEST_HEAD = 80
_NUMBER_LINE = re.compile(
    r"[\W_]*(?:(?:page|pag\.?|pg\.?|p\.|seite|s\.|página|pagina)\s*)?"
    r"(?:(?P<arabic>[0-9]{1,4})|(?P<roman>[ivxlcdm]{1,8}))"
    r"(?:\s*(?:/|of|von|de|sur|di|van)\s*[0-9]{1,4})?[\W_]*",
    re.I,
)
_MISREAD = str.maketrans("lI|iOoSsBZz", "11110055822")
_HEADING = re.compile(rf"#.*|(?:{LABELS})\s+[0-9]+", re.I)
_HEAD_NUMBER = re.compile(r"(?P<before>[0-9]{1,4})\s+\S.*|.*\S\s+(?P<after>[0-9]{1,4})")
_STEP = 3  # pages whose number may be missing between two that have one
_FEWEST = 4  # numbers of a sequence that is inferred
_SEQUENCES = 8  # of numbers in one text, such as the volumes of a set
_SHORTEST_PAGE, _LONGEST_PAGE = 500, 8000  # characters
_OPEN_SHARE = 0.2  # of page breaks go through a sentence; section numbers never do


def page_number(line: str) -> tuple[int, bool] | None:
    """(value, Roman or not) of the number of a line with nothing else but "Page", "of 9" and marks."""
    bare = line.strip()
    if not bare or len(bare) > _LONGEST_NUMBER or not (match := _NUMBER_LINE.fullmatch(bare)):
        return None
    if match["arabic"]:
        return int(match["arabic"]), False
    value = roman_value(match["roman"])
    return None if value is None else (value, True)


def misread_number(line: str) -> int:
    """The number that OCR may have seen as letters, such as "l2" for 12, where it is expected; -1 for none."""
    bare = line.strip().translate(_MISREAD)
    return int(bare) if len(bare) <= 4 and bare.isascii() and bare.isdigit() else -1


def inferred_page_ends(lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """The lines that hold a page number, in order, of a text that has no form feeds: those of sequences that count up
    at regular distances, with sentences running through from page to page."""
    candidates = _candidates(lines)
    ends: list[int] = []
    for roman in (False, True):
        left = [(line, value) for line, (value, is_roman) in candidates if is_roman == roman]
        for _ in range(_SEQUENCES):
            if len(left) < _FEWEST or len(chain := _longest_chain(left, starts)) < _FEWEST:
                break
            if _is_paging(chain, lines, starts):
                ends += [line for line, _ in chain]
                first, last = chain[0][0], chain[-1][0]
                left = [each for each in left if not first <= each[0] <= last]
            else:
                tried = set(chain)
                left = [each for each in left if each not in tried]
    return sorted(set(ends))


def _candidates(lines: Sequence[str]) -> list[tuple[int, tuple[int, bool]]]:
    """(line, number) of numbers alone on their lines, and of those in heads that recur."""
    alone: list[tuple[int, tuple[int, bool]]] = []
    headed: list[tuple[int, tuple[int, bool], str]] = []
    for position, line in enumerate(lines):
        bare = line.strip() if len(line) <= 2 * _LONGEST_HEAD else ""
        if number := page_number(bare):
            alone.append((position, number))
        elif (
            0 < len(bare) <= _LONGEST_HEAD
            and (bare[0].isdigit() or bare[-1].isdigit())
            and (match := _HEAD_NUMBER.fullmatch(bare))
            and not _HEADING.fullmatch(bare)
        ):
            headed.append((position, (int(match["before"] or match["after"]), False), letters_of(bare)))
    heads = Counter(letters for _, _, letters in headed)
    recurring = [(line, number) for line, number, letters in headed if letters and heads[letters] >= _FEWEST]
    return sorted(alone + recurring, key=lambda each: each[0])


def _longest_chain(candidates: Sequence[tuple[int, int]], starts: Sequence[int]) -> list[tuple[int, int]]:
    """The longest run of (line, value) in which values go up by 1 to `_STEP`; of two of one length, the evener."""
    # Of the best chain to a candidate: its length, how far the last gap is from the one before (negative), the
    # candidate before it or -1, and the characters a page since then.
    links: list[tuple[int, float, int, float]] = []
    latest: dict[int, int] = {}  # value -> the candidate that ends the best chain there
    for index, (line, value) in enumerate(candidates):
        best = (1, -0.0, -1, 0.0)
        for step in range(1, _STEP + 1):
            if (before := latest.get(value - step)) is None:
                continue
            gap = (starts[line] - starts[candidates[before][0]]) / step
            if not _SHORTEST_PAGE / 2 <= gap <= 2 * _LONGEST_PAGE:
                continue
            length, _, _, earlier_gap = links[before]
            evenness = -abs(gap - earlier_gap) if earlier_gap else 0.0
            if (length + 1, evenness) > best[:2]:
                best = (length + 1, evenness, before, gap)
        links.append(best)
        known = latest.get(value)
        if (
            known is None
            or (best[0] == links[known][0] == 1)  # the nearer one begins a page sooner
            or starts[line] - starts[candidates[known][0]] > 2 * _STEP * _LONGEST_PAGE  # none can follow it any more
            or best[:2] > links[known][:2]
        ):
            latest[value] = index
    at = max(range(len(links)), key=lambda index: links[index][0])
    chain: list[tuple[int, int]] = []
    while at >= 0:
        chain.append(candidates[at])
        at = links[at][2]
    return chain[::-1]


def _is_paging(chain: Sequence[tuple[int, int]], lines: Sequence[str], starts: Sequence[int]) -> bool:
    gaps = [(starts[line] - starts[before]) / (value - earlier) for (before, earlier), (line, value) in pairwise(chain)]
    usual = median(gaps)
    even = sum(0.6 * usual <= gap <= 1.5 * usual for gap in gaps)
    open_ends = sum(not ends_sentence(_body_before(line, lines)) for line, _ in chain)
    return (
        _SHORTEST_PAGE <= usual <= _LONGEST_PAGE
        and even >= 0.7 * len(gaps)
        and open_ends >= max(1.0, _OPEN_SHARE * len(chain))
    )


def _body_before(line: int, lines: Sequence[str]) -> str:
    """The nearest line before that has small letters, so is no running head in capitals; looks back a few lines."""
    for before in range(line - 1, max(-1, line - 9), -1):
        if any(map(str.islower, lines[before])):
            return lines[before]
    return ""
