"""Passages that stand in one document twice, such as a page that was scanned twice: the later one is cut."""

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lmworks.records import Edit

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s")
_BEHIND = re.compile(r"\S*\s*")  # marks behind a word, and the white space there
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing
_STEP = 1024  # words that are compared at a time


def repair_passages(text: str, words: int = 100) -> list[Edit]:
    """Cut each passage of at least so many words that stood before, word for word: case, marks and white space may
    differ. What is cut is never part of what it repeats. Rule: `passage.repeated`.

    `words`: a page has several hundred. What writers repeat on purpose, such as refrains, formulas and letters that
    are read once more, is shorter: 60 words at most in ten classic books.
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    numbered = np.fromiter((numbers[text[start:end].casefold()] for start, end in spans), np.uint64, len(spans))
    edits: list[Edit] = []
    for first, last in _repeats(numbered, words):
        limit = max(spans[first - 1][1], edits[-1].end if edits else 0)
        start, end = spans[first][0], spans[last - 1][1]
        start -= len(_SPACE.split(text[limit:start])[-1])  # marks before a word, such as a quotation mark
        if text[start - 1].isspace():  # else what follows may not move up to the word before
            marks = _BEHIND.match(text, end, spans[last][0] if last < len(spans) else len(text))
            end = marks.end() if marks else end
        edits.append(Edit(start, end, "", "passage.repeated"))
    return edits


def _repeats(numbers: NDArray[np.uint64], words: int) -> Iterator[tuple[int, int]]:
    """Ranges [first, last) of words that stood before, in order, without overlaps."""
    count = len(numbers) - words + 1
    if count < 2:
        return
    mixed = (numbers + np.uint64(1)) * _BASE
    mixed ^= mixed >> np.uint64(29)
    hashes = np.zeros(count, np.uint64)  # of each window of so many words a polynomial modulo 2^64
    for offset in range(words):
        hashes = hashes * _BASE + mixed[offset : offset + count]
    _, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    earlier = firsts[inverse]  # of each window, where its like begins first
    done = 0  # words before this one are dealt with
    for at in np.flatnonzero(earlier < np.arange(count)).tolist():
        before = int(earlier[at])
        if at < done or at - before < words:
            continue
        length = _same(numbers, before, at)
        if length >= words:
            yield at, at + length
            done = at + length


def _same(numbers: NDArray[np.uint64], before: int, at: int) -> int:
    """How many words from `before` on are those from `at` on; no further than `at` itself."""
    limit = min(at - before, len(numbers) - at)
    for start in range(0, limit, _STEP):
        end = min(start + _STEP, limit)
        differ = np.flatnonzero(numbers[before + start : before + end] != numbers[at + start : at + end])
        if len(differ):
            return start + int(differ[0])
    return limit
