"""Passages that stand elsewhere before, word for word (Lee et al. 2022, "Deduplicating training data makes language
models better", section 4.1).

Documents are taken in blocks that fit in memory. Within a block nothing is missed: a window of `length` bytes is
marked when the same bytes begin earlier in the block, in another document or at least `length` bytes before. Between
blocks, what stays of a block is compared with what stayed of those before it (`kept_windows`). So of the text that is
not marked, in the end:

- no two places in one block, `length` bytes or more apart, have the same `length` bytes;
- no two places in different blocks have the same 2 `length` - 1 bytes; of the shorter repeats between blocks, those
  are found that hold a remembered window.

The first occurrence of a passage stays. Where passages overlap, what is marked of one may be what came first of
another, so that of the second a part stays in one document and the rest in another: no bytes are lost, but a context
may be.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotation import Mark
from lmworks.data.duplicates.byte_blocks import SEPARATOR, Block, as_code_points, blocks_of, encoded, stretches_of
from lmworks.data.duplicates.kept_windows import KeptWindows
from lmworks.data.duplicates.suffixes import Method, first_occurrences

RULE = "duplicate.passage"
LENGTH = 200  # bytes: the 50 tokens of the paper, or some 35 English words
BLOCK = 32_000_000  # bytes, for which the search takes about 1 GB
_REMEMBERED = 64  # documents of earlier blocks that stay in memory


def repeated_passages(
    texts: Sequence[str], length: int = LENGTH, block_bytes: int = BLOCK, method: Method = "suffix array"
) -> Iterator[tuple[int, tuple[Mark, ...]]]:
    """(number of the document, its repeated passages) for each document that has any, by number.

    `texts` may read a text each time that it is asked for a number; documents come first in their order, so number them
    by `clusters.by_priority`. Marks are code points of whole characters; those that touch are one. A document of more
    than `block_bytes` is a block of its own. ValueError for a length below 2.
    """
    if length < 2:
        raise ValueError(f"a repeated passage has at least two bytes, got {length}")

    @lru_cache(_REMEMBERED)
    def text_of(document: int) -> NDArray[np.uint8]:
        return encoded(texts[document])

    kept = KeptWindows(length, text_of)
    for block in blocks_of((texts[number] for number in range(len(texts))), block_bytes):
        border = block.text == SEPARATOR
        gone = border | _repeated_within(block, length, method)
        for start, end in kept.repeats_in(block, stretches_of(~gone)):
            gone[start:end] = True
        kept.add(block, stretches_of(~gone))
        yield from _marked(block, stretches_of(gone & ~border))


def _repeated_within(block: Block, length: int, method: Method) -> NDArray[np.bool_]:
    """(n,) whether each byte is in a window that stands before in the block."""
    first = first_occurrences(block.text, length, method)
    places = np.flatnonzero(np.arange(len(first)) - first >= length)
    whole = places + length <= block.ends[block.document_of(places)]  # equal bytes hold separators at equal places
    places = places[whole]
    steps = np.zeros(len(block.text) + 1, np.int32)
    steps[places] += 1
    steps[places + length] -= 1
    return np.cumsum(steps[:-1]) > 0


def _marked(block: Block, ranges: NDArray[np.int64]) -> Iterator[tuple[int, tuple[Mark, ...]]]:
    documents = block.document_of(ranges[:, 0])
    borders = np.flatnonzero(documents[1:] != documents[:-1]) + 1
    starts = block.starts
    for group in np.split(np.arange(len(documents)), borders) if len(documents) else ():
        document = int(documents[group[0]])
        start, end = int(starts[document]), int(block.ends[document])
        places = as_code_points(block.text[start:end], ranges[group] - start)
        marks = tuple(Mark(RULE, first, last) for first, last in places.tolist() if first < last)
        if marks:
            yield block.first + document, marks
