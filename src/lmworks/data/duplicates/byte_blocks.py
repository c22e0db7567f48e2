"""Neighbouring documents as one string of bytes, and places in it as places in their texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEPARATOR = 0xFF  # behind each document: a byte that UTF-8 has nowhere


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """first  the number of its first document
    text   (n,) uint8: its documents in UTF-8, each with a separator behind it
    ends   (documents,) int64: where those separators are
    """

    first: int
    text: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        return np.concatenate(([0], self.ends[:-1] + 1))

    def document_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the document at each place, counted from the first of the block."""
        return np.searchsorted(self.ends, places)


def encoded(text: str) -> NDArray[np.uint8]:
    """The bytes of a text; a surrogate, which UTF-8 has no place for, has three as well."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def blocks_of(texts: Iterable[str], size: int) -> Iterator[Block]:
    """All documents, in blocks that end with the one that reaches `size` bytes."""
    first, parts, total = 0, [], 0
    for number, text in enumerate(texts):
        parts.append(encoded(text))
        total += len(parts[-1]) + 1
        if total >= size:
            yield _block(first, parts)
            first, parts, total = number + 1, [], 0
    if parts:
        yield _block(first, parts)


def _block(first: int, parts: list[NDArray[np.uint8]]) -> Block:
    separator = np.array([SEPARATOR], np.uint8)
    text = np.concatenate([piece for part in parts for piece in (part, separator)])
    return Block(first, text, np.cumsum([len(part) + 1 for part in parts], dtype=np.int64) - 1)


def as_code_points(text: NDArray[np.uint8], ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 2) ranges of bytes as ranges of the whole characters in them; a range may become empty."""
    begins = (text & 0xC0) != 0x80  # where a character begins
    if begins.all():
        return ranges
    before = np.concatenate(([0], np.cumsum(begins)))
    border = np.append(begins, True)
    starts, ends = ranges[:, 0], ranges[:, 1]
    first = before[starts]
    last = before[ends] - ~border[ends]  # a character that goes on behind the end is not in it
    return np.stack((first, np.maximum(first, last)), axis=1)
