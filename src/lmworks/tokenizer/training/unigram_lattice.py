"""All ways to cut the counted words into pieces: the compiled lattice, or one in Python that computes the same."""

import ctypes
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from lmworks.tokenizer import library
from lmworks.tokenizer.training.initial_symbols import Spelling
from lmworks.tokenizer.training.unigram_reference import BLOCKS, PythonLattice


class Lattice(Protocol):
    """The pieces have numbers: first the characters of the alphabet, then longer ones, those with the higher product of
    frequency and length first. `scores` are natural logarithms of probabilities."""

    alphabet: int  # how many of the pieces are characters, which are never dropped
    lengths: np.ndarray  # (pieces,) int32, characters
    frequencies: np.ndarray  # (pieces,) int64: how often the texts have each, also where they overlap

    def names(self, numbers: Iterable[int]) -> list[str]: ...

    def expect(self, block: int, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
        """How often each piece is expected in one of `BLOCKS` parts of the words, (pieces,) float64, and the natural
        logarithm of these words' likelihood. Several blocks may be computed at once."""
        ...

    def best(self, block: int, scores: np.ndarray) -> np.ndarray:
        """(pieces,) int64: how often each piece is in the best segmentations of a block's words."""
        ...

    def alternatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(ends, others)`: the pieces that each piece is best cut into without itself, behind each other, the last one
        first, and where these end, (pieces,) int64. A character has none."""
        ...

    def keep(self, chosen: np.ndarray) -> None:
        """Drops the pieces that a (pieces,) mask does not choose; the others move up."""
        ...


def new_lattice(spelling: Spelling, longest: int, seed_size: int, least: int = 2) -> Lattice:
    """With the pieces that learning begins with: the characters, and of the stretches of 2 to `longest` characters that
    occur `least` times, and not always before the same character, the `seed_size` best by frequency times length."""
    lattice = CompiledLattice if library.load() is not None else PythonLattice
    return lattice(spelling, longest, seed_size, least)


class CompiledLattice:
    """In C++."""

    def __init__(self, spelling: Spelling, longest: int, seed_size: int, least: int) -> None:
        compiled = library.load()
        assert compiled is not None
        self._library, self._spelling, self.alphabet = compiled, spelling, len(spelling.alphabet)
        cells, starts, weights = spelling.cells, spelling.starts, spelling.weights
        self._lattice = compiled.lmworks_unigram_new(
            *(cells.ctypes.data, len(cells)),
            *(starts.ctypes.data, weights.ctypes.data, len(starts)),
            *(self.alphabet, longest, least, seed_size, BLOCKS),
        )
        if not self._lattice:
            raise MemoryError("not enough memory to learn pieces: raise min_word_count")
        self._read()

    def __del__(self) -> None:
        if getattr(self, "_lattice", None):
            self._library.lmworks_unigram_free(self._lattice)

    def _read(self) -> None:
        size = self._library.lmworks_unigram_size(self._lattice)
        self._begins, self.lengths = np.empty(size, np.uint32), np.empty(size, np.int32)
        self.frequencies = np.empty(size, np.int64)
        arrays = (self._begins, self.lengths, self.frequencies)
        self._library.lmworks_unigram_read(self._lattice, *(array.ctypes.data for array in arrays))

    def names(self, numbers: Iterable[int]) -> list[str]:
        cells, alphabet = self._spelling.cells, self._spelling.alphabet
        spans = ((int(self._begins[number]), int(self.lengths[number])) for number in numbers)
        return ["".join(alphabet[cell] for cell in cells[start : start + length].tolist()) for start, length in spans]

    def expect(self, block: int, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
        expected, likelihood = np.zeros(len(self.lengths)), ctypes.c_double()
        result = self._library.lmworks_unigram_expect(
            self._lattice, block, probabilities.ctypes.data, expected.ctypes.data, ctypes.addressof(likelihood)
        )
        library.check(result)
        return expected, likelihood.value

    def best(self, block: int, scores: np.ndarray) -> np.ndarray:
        counts = np.zeros(len(self.lengths), np.int64)
        library.check(self._library.lmworks_unigram_best(self._lattice, block, scores.ctypes.data, counts.ctypes.data))
        return counts

    def alternatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends, others = np.empty(len(self.lengths), np.int64), np.empty(self.lengths.sum(), np.uint32)
        result = self._library.lmworks_unigram_alternatives(
            self._lattice, scores.ctypes.data, ends.ctypes.data, others.ctypes.data
        )
        library.check(result)
        return ends, others[: ends[-1]]

    def keep(self, chosen: np.ndarray) -> None:
        marked = np.ascontiguousarray(chosen, np.uint8)
        library.check(self._library.lmworks_unigram_keep(self._lattice, marked.ctypes.data))
        self._read()
