"""Passages that stand in one document twice, such as a page that was scanned twice: the later one is cut."""

import re
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from lmworks.records import Edit

_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\s")
_BEHIND = re.compile(r"\S*\s*")  # marks behind a word, and the white space there
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2^64 loses nothing
_STEP = 64  # words that are compared at a time, at first


def repair_passages(text: str, words: int = 100) -> list[Edit]:
    """Cut each passage of at least so many words that stood before, word for word: case, marks and white space may
    differ. What is cut is never part of what it repeats. Rule: `passage.repeated`.

    `words`: a page has several hundred. What writers repeat on purpose, such as refrains, formulas and letters that
    are read once more, is shorter: 60 words at most in ten classic books.
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    numbers = _numbered(text, spans)
    edits: list[Edit] = []
    for first, last in _repeats(numbers, words):
        limit = max(spans[first - 1][1], edits[-1].end if edits else 0)
        start, end = spans[first][0], spans[last - 1][1]
        start -= len(_SPACE.split(text[limit:start])[-1])  # marks before a word, such as a quotation mark
        if text[start - 1].isspace():  # else what follows may not move up to the word before
            marks = _BEHIND.match(text, end, spans[last][0] if last < len(spans) else len(text))
            end = marks.end() if marks else end
        edits.append(Edit(start, end, "", "passage.repeated"))
    return edits


def _numbered(text: str, spans: list[tuple[int, int]]) -> npt.NDArray[np.uint64]:
    """A number for each word, the same for the same word."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return np.fromiter((numbers[text[start:end].casefold()] for start, end in spans), np.uint64, len(spans))


def _repeats(numbers: npt.NDArray[np.uint64], words: int) -> list[tuple[int, int]]:
    """Ranges [first, last) of words that stood before, in order, without overlaps."""
    count = len(numbers) - words + 1
    if count < 2:
        return []
    hashes = _window_hashes(numbers, words)
    _, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    earlier = firsts[inverse]  # of each window, where its like begins first
    found: list[tuple[int, int]] = []
    done = 0  # words before this one are dealt with
    for at in np.flatnonzero(earlier < np.arange(count)).tolist():
        before = int(earlier[at])
        if at < done or at - before < words:
            continue
        length = _same(numbers, before, at)
        if length >= words:
            found.append((at, at + length))
            done = at + length
    return found


def _window_hashes(numbers: npt.NDArray[np.uint64], words: int) -> npt.NDArray[np.uint64]:
    """A polynomial hash modulo 2^64 of each window of so many words."""
    mixed = (numbers + np.uint64(1)) * _BASE
    mixed ^= mixed >> np.uint64(29)
    count = len(numbers) - words + 1
    hashes = np.zeros(count, np.uint64)
    for offset in range(words):
        hashes = hashes * _BASE + mixed[offset : offset + count]
    return hashes


def _same(numbers: npt.NDArray[np.uint64], before: int, at: int) -> int:
    """How many words from `before` on are those from `at` on; no further than `at` itself."""
    limit = min(at - before, len(numbers) - at)
    length, step = 0, _STEP
    while length < limit:
        step = min(step, limit - length)
        first, second = before + length, at + length
        differ = np.flatnonzero(numbers[first : first + step] != numbers[second : second + step])
        if len(differ):
            return length + int(differ[0])
        length += step
        step *= 2
    return length
