"""Learning the pieces of a Unigram model (Kudo 2018, section 3.2).

Far more pieces than are wanted are given probabilities by expectation maximisation; then those go whose loss the
likelihood of the texts feels least, a part at a time, with new probabilities in between. A word's probability under a
segmentation is the product of its pieces' probabilities (equation 1).
"""

import ctypes
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.special import digamma

from lmworks.compiled import cores
from lmworks.progress import Report, no_report
from lmworks.tokenizer import library
from lmworks.tokenizer.training.initial_symbols import Spelling

BLOCKS = 8  # parts of the words, whose sums are added up in order: the number of threads changes no bit
SHRINKING = 0.75  # the share of the pieces that a round of pruning leaves
EM_STEPS = 2  # of expectation and maximisation, before each pruning and after the last one
LEAST_EXPECTED = 0.5  # pieces that are used less often are dropped between prunings
DECIMALS = 12  # of scores: with more, a reader of JSON may miss the last bit, and the tokenizer would have another hash


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Learnt pieces, the most probable first.

    names   every character of the alphabet, and longer pieces
    scores  (pieces,) float64: natural logarithms of their probabilities, which add up to 1
    """

    names: tuple[str, ...]
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


class Lattice:
    """All segmentations of the counted words into pieces, in C++.

    The pieces have numbers: first the characters of the alphabet, which are never dropped, then longer ones: of the
    stretches of 2 to `longest` characters that occur `least` times, and not always before the same character, the
    `seed_size` best by frequency times length, the best first. `scores` are natural logarithms of probabilities.

    alphabet     how many of the pieces are characters
    lengths      (pieces,) int32, characters
    frequencies  (pieces,) int64: how often the texts have each, also where they overlap
    """

    def __init__(self, spelling: Spelling, longest: int, seed_size: int, least: int = 2) -> None:
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
        """The expected count of each piece in one of `BLOCKS` parts of the words, (pieces,) float64, and the natural
        logarithm of these words' likelihood. Several blocks may be computed at once."""
        expected, likelihood = np.zeros(len(self.lengths)), ctypes.c_double()
        result = self._library.lmworks_unigram_expect(
            self._lattice, block, probabilities.ctypes.data, expected.ctypes.data, ctypes.addressof(likelihood)
        )
        library.check(result)
        return expected, likelihood.value

    def best(self, block: int, scores: np.ndarray) -> np.ndarray:
        """(pieces,) int64: how often each piece is in the best segmentations (Viterbi 1967) of a block's words; of
        equally good ones that with the longest last piece."""
        counts = np.zeros(len(self.lengths), np.int64)
        library.check(self._library.lmworks_unigram_best(self._lattice, block, scores.ctypes.data, counts.ctypes.data))
        return counts

    def alternatives(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(ends, pieces)`: the pieces that each piece is best cut into without itself, behind each other, the last one
        first, and where these end, (pieces,) int64. A character has none."""
        ends, pieces = np.empty(len(self.lengths), np.int64), np.empty(self.lengths.sum(), np.uint32)
        result = self._library.lmworks_unigram_alternatives(
            self._lattice, scores.ctypes.data, ends.ctypes.data, pieces.ctypes.data
        )
        library.check(result)
        return ends, pieces[: ends[-1]]

    def keep(self, chosen: np.ndarray) -> None:
        """Drops the pieces that a (pieces,) mask does not choose; the others move up."""
        marked = np.ascontiguousarray(chosen, np.uint8)
        library.check(self._library.lmworks_unigram_keep(self._lattice, marked.ctypes.data))
        self._read()


def learn_pieces(
    spelling: Spelling,
    size: int,
    *,
    longest: int = 16,
    seed_size: int = 1_000_000,
    forbidden: Collection[str] = (),
    progress: Report = no_report,
) -> Pieces:
    """`size` pieces; fewer where the texts have not as many stretches of 2 to `longest` characters that occur twice.

    None is one of `forbidden`, and every character is one.
    The same input gives the same pieces on any number of cores.
    """
    lattice = Lattice(spelling, longest, seed_size)
    suspects = np.flatnonzero(np.isin(lattice.lengths, [len(text) for text in forbidden]))
    suspects = suspects[suspects >= lattice.alphabet].tolist()
    named = zip(suspects, lattice.names(suspects), strict=True)
    dropped = [number for number, name in named if name in forbidden]
    lattice.keep(~np.isin(np.arange(len(lattice.lengths)), dropped))
    begun = len(lattice.lengths)
    weights = lattice.frequencies * lattice.lengths.astype(np.int64)
    scores = np.log(weights) - log(weights.sum())
    with ThreadPoolExecutor(min(cores(), BLOCKS)) as pool:
        while True:
            for _ in range(EM_STEPS):
                expected, _ = expectation(lattice, scores, pool)
                scores = maximise(lattice, expected, size)
            progress(begun - len(scores), max(begun - size, 0), "candidates dropped")
            if len(scores) <= size:
                break
            scores = prune(lattice, scores, max(size, int(SHRINKING * len(scores))), size, pool)
        scores = np.round(scores - np.logaddexp.reduce(scores), DECIMALS)
    names = lattice.names(range(len(scores)))
    order = sorted(range(len(names)), key=lambda number: (-scores[number], names[number]))
    return Pieces(tuple(names[number] for number in order), scores[order])


def expectation(lattice: Lattice, scores: np.ndarray, pool: ThreadPoolExecutor) -> tuple[np.ndarray, float]:
    """Expected counts of the pieces over all segmentations, by their probability, and the log-likelihood."""
    probabilities = np.exp(scores)
    expected, likelihood = np.zeros(len(scores)), 0.0
    for counts, logarithm in pool.map(lambda block: lattice.expect(block, probabilities), range(BLOCKS)):
        expected += counts
        likelihood += logarithm
    return expected, likelihood


def maximise(lattice: Lattice, expected: np.ndarray, size: int) -> np.ndarray:
    """New scores; pieces that are hardly used are dropped, as long as `size` are left.

    As in Kudo's program, the logarithms are digamma's, which take from the rare pieces: what is learnt is the posterior
    under a sparse prior (Liang, Petrov, Jordan & Klein 2007, section 2.3).
    """
    used = int(np.count_nonzero(expected[lattice.alphabet :] >= LEAST_EXPECTED)) + lattice.alphabet
    chosen = _highest(lattice, expected, max(size, used))
    lattice.keep(chosen)
    counts = np.maximum(expected[chosen], LEAST_EXPECTED)
    return digamma(counts) - digamma(counts.sum())


def prune(lattice: Lattice, scores: np.ndarray, number: int, size: int, pool: ThreadPoolExecutor) -> np.ndarray:
    """The scores of the `number` pieces that are missed most; fewer, but not less than `size`, where others are unused.

    What a piece is worth is how much the likelihood of the best segmentations falls when the best segmentation of the
    piece into others takes its place.
    """
    counts = sum(pool.map(lambda block: lattice.best(block, scores), range(BLOCKS)), np.zeros(len(scores), np.int64))
    ends, alternatives = lattice.alternatives(scores)
    lengths = np.diff(ends, prepend=0)
    total = float(counts.sum())
    alone = np.log(counts.clip(min=1) / total)
    joined = np.log((counts[alternatives] + np.repeat(counts, lengths)).clip(min=1))
    sums = np.concatenate([[0.0], np.cumsum(joined)])
    instead = sums[ends] - sums[ends - lengths] - lengths * np.log(total + counts * (lengths - 1.0))
    losses = counts * (alone - instead)
    losses[: lattice.alphabet] = np.inf
    chosen = _highest(lattice, losses, max(size, min(number, int(np.count_nonzero(losses > 0)))))
    lattice.keep(chosen)
    return scores[chosen]


def _highest(lattice: Lattice, values: np.ndarray, number: int) -> np.ndarray:
    """(pieces,) mask of all characters and the pieces of the highest values, `number` together; of equal ones those
    that have been the better candidates."""
    ranked = values.copy()
    ranked[: lattice.alphabet] = np.inf
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-ranked, kind="stable")[:number]] = True
    return chosen
