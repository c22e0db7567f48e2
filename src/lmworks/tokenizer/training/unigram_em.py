"""Learning the pieces of a Unigram model (Kudo 2018, section 3.2).

Far more pieces than are wanted are given probabilities by expectation maximisation; then those go whose loss the
likelihood of the texts feels least, a part at a time, with new probabilities in between.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.special import digamma

from lmworks.compiled import cores
from lmworks.progress import Report, no_report
from lmworks.tokenizer.training.initial_symbols import Spelling
from lmworks.tokenizer.training.unigram_lattice import BLOCKS, Lattice, new_lattice

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
    The same input gives the same pieces, with the compiled lattice and without, on any number of cores.
    """
    lattice = new_lattice(spelling, longest, seed_size)
    _forbid(lattice, forbidden)
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
    ends, others = lattice.alternatives(scores)
    lengths = np.diff(ends, prepend=0)
    total = float(counts.sum())
    alone = np.log(counts.clip(min=1) / total)
    joined = np.log((counts[others] + np.repeat(counts, lengths)).clip(min=1))
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


def _forbid(lattice: Lattice, forbidden: Collection[str]) -> None:
    suspects = np.flatnonzero(np.isin(lattice.lengths, [len(text) for text in forbidden]))
    suspects = suspects[suspects >= lattice.alphabet].tolist()
    numbers = [number for number, name in zip(suspects, lattice.names(suspects), strict=True) if name in set(forbidden)]
    if numbers:
        chosen = np.ones(len(lattice.lengths), bool)
        chosen[numbers] = False
        lattice.keep(chosen)
