"""The text that stays, remembered by samples, so that a later text is found to repeat it without both in memory.

Of each stretch that stays, the window of `length` bytes at every `length`-th byte is remembered by its hash: 16 bytes
each, for windows of 200 bytes 8 % of the text. Later texts are looked up at every byte. Wherever such a text and a
stretch share 2 `length` - 1 bytes, these hold a whole remembered window, which is found; the two are then compared byte
by byte, and the repeat is as long as they agree.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.byte_blocks import Block
from lmworks.data.duplicates.lookup import HashLookup
from lmworks.data.duplicates.reference import MULTIPLIER
from lmworks.data.order import mix

_PIECE = 2**22  # windows that are hashed at once
_BYTES = mix(np.arange(1, 257, dtype=np.uint64))  # what stands for a byte, so that all bits of a hash depend on it


class KeptWindows:
    """Windows of `length` bytes of the stretches that stay. `text_of` gives the bytes of a document by its number."""

    def __init__(self, length: int, text_of: Callable[[int], NDArray[np.uint8]]) -> None:
        self._length, self._text_of = length, text_of
        self._stretches = np.empty((0, 3), np.int64)  # document, start and end
        self._hashes = np.empty(0, np.uint64)  # of the windows, sorted
        self._owners, self._steps = np.empty(0, np.int32), np.empty(0, np.int32)  # stretch, and which window of it
        self._lookup = HashLookup(self._hashes)

    def add(self, block: Block, stretches: NDArray[np.int64]) -> None:
        """Remember (n, 2) stretches of a block, each within one document."""
        stretches = stretches[stretches[:, 1] - stretches[:, 0] >= self._length]
        numbers = (stretches[:, 1] - stretches[:, 0]) // self._length
        owners = np.repeat(np.arange(len(stretches)), numbers)
        steps = np.arange(len(owners)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        hashes = _hashes_at(block.text, stretches[owners, 0] + steps * self._length, self._length)
        documents = block.document_of(stretches[:, 0])
        within = stretches - block.starts[documents][:, None]
        order = np.argsort(np.concatenate((self._hashes, hashes)), kind="stable")  # a merge: the first part is sorted
        self._hashes = np.concatenate((self._hashes, hashes))[order]
        self._owners = np.concatenate((self._owners, (owners + len(self._stretches)).astype(np.int32)))[order]
        self._steps = np.concatenate((self._steps, steps.astype(np.int32)))[order]
        self._stretches = np.concatenate((self._stretches, np.column_stack((documents + block.first, within))))
        self._lookup = HashLookup(self._hashes)

    def repeats_in(self, block: Block, stretches: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Ranges within (n, 2) stretches of a later block that repeat what is remembered, in bytes of the block.

        A stretch is compared with one that is remembered once for each distance between the two, as far as they agree.
        """
        reached: dict[tuple[int, int], int] = {}  # stretch and distance → where what was compared ends
        for place, slot, stretch in self._hits(block.text, stretches):
            owner = int(self._owners[slot])
            document, low, high = self._stretches[owner].tolist()
            source = low + int(self._steps[slot]) * self._length
            if place + self._length <= reached.get((owner, place - source), 0):
                continue
            start, end = stretches[stretch].tolist()
            theirs, ours = self._text_of(document)[low:high], block.text[start:end]
            before, after = _agreement(theirs, source - low, ours, place - start)
            if after >= self._length:  # else two strings had one hash
                reached[owner, place - source] = place + after
                yield place - before, place + after

    def _hits(self, text: NDArray[np.uint8], stretches: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
        """(place, slot of the window that is there, stretch that the place is in), by place."""
        if not len(stretches) or not len(self._hashes):
            return
        for begin in range(0, len(text) - self._length + 1, _PIECE):
            hashes = window_hashes(text[begin : begin + _PIECE + self._length - 1], self._length)
            places, slots = self._lookup.find(hashes)
            places = places + begin
            rows = np.searchsorted(stretches[:, 0], places, side="right") - 1
            whole = (rows >= 0) & (places + self._length <= stretches[rows, 1])
            yield from zip(places[whole].tolist(), slots[whole].tolist(), rows[whole].tolist(), strict=True)


def window_hashes(text: NDArray[np.uint8], length: int) -> NDArray[np.uint64]:
    """(len(text) - length + 1,) uint64: the hash of the `length` bytes at each place.

    A polynomial over the bytes, put together from those over 1, 2, 4, ... bytes: a step for each binary digit.
    """
    number = max(len(text) - length + 1, 0)
    whole = np.zeros(number, np.uint64)
    part = _BYTES[text]
    done, size, power = 0, 1, MULTIPLIER
    while number and size <= length:
        if length & size:
            whole = whole * np.uint64(power) + part[done : done + number]
            done += size
        if 2 * size <= length:
            part = part[:-size] * np.uint64(power) + part[size:]
        size, power = 2 * size, power * power % 2**64
    return mix(whole)


def _hashes_at(text: NDArray[np.uint8], places: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """The same at some places only, byte after byte."""
    hashes = np.zeros(len(places), np.uint64)
    for offset in range(length):
        hashes = hashes * np.uint64(MULTIPLIER) + _BYTES[text[places + offset]]
    return mix(hashes)


def _agreement(theirs: NDArray[np.uint8], source: int, ours: NDArray[np.uint8], place: int) -> tuple[int, int]:
    """How many bytes before `source` and `place` are the same, and how many from there on."""
    before = _common_prefix(theirs[:source][::-1], ours[:place][::-1])
    return before, _common_prefix(theirs[source:], ours[place:])


def _common_prefix(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    number, done, step = min(len(first), len(second)), 0, 256
    while done < number:
        end = min(done + step, number)
        different = np.flatnonzero(first[done:end] != second[done:end])
        if len(different):
            return done + int(different[0])
        done, step = end, 2 * step
    return number
