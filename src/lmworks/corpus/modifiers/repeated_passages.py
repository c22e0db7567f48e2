"""Passages that stand in one document twice, such as a page that was scanned twice: the later one is cut."""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import word_spans
from lmworks.corpus.dedup.library import hash_words
from lmworks.corpus.dedup.reference import window_hashes
from lmworks.records import Edit

_SPACE = re.compile(r"\s")
_BEHIND = re.compile(r"\S*\s*")  # marks behind a word, and the white space there


def repair_passages(text: str, words: int = 100) -> list[Edit]:
    """Cut each passage of at least so many words that stood before, word for word: case, marks and white space may
    differ. What is cut is never part of what it repeats. Rule: `passage.repeated`.

    `words`: a page has several hundred. What writers repeat on purpose, such as refrains, formulas and letters that
    are read once more, is shorter: 60 words at most in ten classic books.
    """
    repeats = [*_repeats(hash_words([text]).values, words)]
    spans = word_spans(text).tolist() if repeats else []
    edits: list[Edit] = []
    for first, last in repeats:
        limit = max(spans[first - 1][1], edits[-1].end if edits else 0)
        start, end = spans[first][0], spans[last - 1][1]
        start -= len(_SPACE.split(text[limit:start])[-1])  # marks before a word, such as a quotation mark
        if text[start - 1].isspace():  # else what follows may not move up to the word before
            marks = _BEHIND.match(text, end, spans[last][0] if last < len(spans) else len(text))
            end = marks.end() if marks else end
        edits.append(Edit(start, end, "", "passage.repeated"))
    return edits


def _repeats(hashes: NDArray[np.uint64], words: int) -> Iterator[tuple[int, int]]:
    """Ranges [first, last) of words, by their hashes (n,), that stood before, in order, without overlaps."""
    _, firsts, number = np.unique(window_hashes(hashes, words), return_index=True, return_inverse=True)
    earlier = firsts[number]  # of each window, where its like begins first
    done = 0  # words before this one are dealt with
    for at in np.flatnonzero(earlier < np.arange(len(earlier))).tolist():
        before = int(earlier[at])
        if at < done or at - before < words:
            continue
        limit = min(at - before, len(hashes) - at)  # no further than to itself
        differ = np.flatnonzero(hashes[before : before + limit] != hashes[at : at + limit])
        done = at + (int(differ[0]) if len(differ) else limit)
        yield at, done
