"""Texts to word vectors by GloVe (Pennington et al. 2014): neighbours are counted, and the table is factorised."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lmworks.embeddings import library
from lmworks.embeddings.config import GloveConfig
from lmworks.embeddings.corpus import END, blocks, training_corpus
from lmworks.embeddings.negative_sampling import dot
from lmworks.embeddings.word2vec import check_learnt, in_turn
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.progress import Report, no_report

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ENTRY = np.dtype([("word", np.int32), ("context", np.int32), ("count", np.float32)])
_BLOCK = 1 << 19  # ids that are counted at once
_PART = 100_000  # entries that are learnt from in one call


def train_glove(texts: Iterable[str | Sequence[str]], config: GloveConfig, progress: Report = no_report) -> WordVectors:
    """Vectors of the words of texts, or of sentences that are lists of words; texts are read once (corpus.py).

    A word's vector is the sum of its two, as a word and as a neighbour (section 4.2). ValueError when fewer than two
    different words are frequent enough, and when learning diverges.
    """
    corpus = training_corpus(texts, config, progress)
    entries = count_neighbours(corpus.ids, len(corpus.words), config.window, seed=config.seed, progress=progress)
    factors = new_factors(len(corpus.words), config)
    _factorise(entries, factors, config, progress)
    return WordVectors(corpus.words, factors.rows[..., : config.dimensions].sum(axis=0), corpus.counts)


# ---------------------------------------------------------------------------------------------------------------------
# Counting neighbours


def count_neighbours(
    ids: np.ndarray, words: int, window: int, *, seed: int = 0, progress: Report = no_report
) -> np.ndarray:
    """Cooccurrence counts of a text of ids, with -1 behind each sentence: (n,) of `ENTRY`.

    Every pair of words that are neighbours is there in both directions, in an order that is random but the same for the
    same seed. Memory follows the different pairs, about 100 bytes for each, not the length of the text.
    """
    from scipy.sparse import csr_array

    counts = csr_array((words, words))  # [i, j]: for all places of i before j, the sum of 1 / distance
    done = 0
    for block in blocks(ids, _BLOCK):
        counts += _count_block(block, words, window)
        done += len(block)
        progress(done, len(ids), "words counted")
    counts = (counts + counts.T).tocoo(copy=False)  # a word that is its own neighbour counts once from either side
    order = np.random.default_rng(seed).permutation(counts.nnz)
    entries = np.empty(len(order), ENTRY)
    for name, column in zip(ENTRY.names or (), (*counts.coords, counts.data), strict=True):
        entries[name] = column[order]
    return entries


def _count_block(ids: np.ndarray, words: int, window: int) -> "csr_array":
    from scipy.sparse import coo_array, csr_array

    sentence = np.cumsum(ids == END)
    before = csr_array((words, words))
    for distance in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-distance], ids[distance:]
        together = (sentence[:-distance] == sentence[distance:]) & (left != END)
        left, right = left[together], right[together]
        before += coo_array((np.ones(len(left)), (left, right)), shape=before.shape).tocsr() / distance
    return before


# ---------------------------------------------------------------------------------------------------------------------
# Factorising the table (equations 8 and 9)


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Both sides of the factorisation: [0] words, [1] the words next to them.

    rows, row_squares      (2, words, width) float32: rows as in `library.zero_rows`, and sums of squared gradients
    biases, bias_squares   (2, words) float32
    """

    rows: np.ndarray
    row_squares: np.ndarray
    biases: np.ndarray
    bias_squares: np.ndarray
    learning_rate: float


def weights(counts: np.ndarray, limit: float, power: float) -> np.ndarray:
    """(n,) float32: f of counts."""
    return (np.minimum(counts / limit, 1.0) ** power).astype(np.float32)


def learn_entries(
    factors: Factors, words: np.ndarray, contexts: np.ndarray, logarithms: np.ndarray, weights: np.ndarray
) -> float:
    """Learns from (n,) entries in order, changing `factors`; returns the sum of their losses, J / 2, each before its
    step."""
    rate = np.float32(factors.learning_rate)
    loss = 0.0
    for word, context, logarithm, weight in zip(words, contexts, logarithms, weights, strict=True):
        row, context_row = factors.rows[0][word], factors.rows[1][context]
        error = dot(row[None], context_row)[0] + factors.biases[0][word] + factors.biases[1][context] - logarithm
        factor = weight * error
        loss += 0.5 * float(factor) * float(error)
        gradients = (factor * context_row, factor * row)
        for side, index in enumerate((word, context)):
            factors.row_squares[side][index] += gradients[side] * gradients[side]
            factors.rows[side][index] -= rate * gradients[side] / np.sqrt(factors.row_squares[side][index])
            factors.bias_squares[side][index] += factor * factor
            factors.biases[side][index] -= rate * factor / np.sqrt(factors.bias_squares[side][index])
    return loss


def new_factors(words: int, config: GloveConfig) -> Factors:
    """Rows and biases are uniform between -0.5 and 0.5, over the dimensions, as in the program of the paper."""
    generator = np.random.default_rng(config.seed)

    def begin(*shape: int) -> np.ndarray:
        return (generator.random(shape, np.float32) - np.float32(0.5)) / np.float32(config.dimensions)

    biases = begin(2, words)
    rows, squares = (library.zero_rows(2 * words, config.dimensions, fill).reshape(2, words, -1) for fill in (0.0, 1.0))
    rows[..., : config.dimensions] = begin(2, words, config.dimensions)
    return Factors(rows, squares, biases, np.ones_like(biases), config.learning_rate)


def _factorise(entries: np.ndarray, factors: Factors, config: GloveConfig, progress: Report) -> None:
    learn = _learner(factors)

    def job(start: int) -> float:
        batch = entries[start : start + _PART]
        counts = batch["count"]
        return learn(
            batch["word"].copy(), batch["context"].copy(), np.log(counts),
            weights(counts, config.count_limit, config.weight_power),
        )  # fmt: skip

    starts = range(0, len(entries), _PART)
    jobs = [partial(job, start) for _ in range(config.epochs) for start in starts]
    for number, _ in enumerate(in_turn(jobs, config.threads), start=1):
        progress(min(number * _PART, config.epochs * len(entries)), config.epochs * len(entries), "pairs learnt")
        if number % len(starts) == 0:
            check_learnt(factors.rows, config.learning_rate)


def _learner(factors: Factors) -> Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]:
    compiled = library.load()
    if compiled is None:
        return partial(learn_entries, factors)
    structure = library.Factors(parts=factors.rows.shape[-1] // library.LANES, rate=factors.learning_rate)
    for name in ("rows", "row_squares", "biases", "bias_squares"):
        for side in range(2):
            getattr(structure, name)[side] = getattr(factors, name)[side].ctypes.data

    def learn(words: np.ndarray, contexts: np.ndarray, logarithms: np.ndarray, weights: np.ndarray) -> float:
        loss = ctypes.c_double()
        pointers = (array.ctypes.data for array in (words, contexts, logarithms, weights))
        library.check(compiled.lmworks_glove_learn(ctypes.byref(structure), *pointers, len(words), ctypes.byref(loss)))
        return loss.value

    return learn
