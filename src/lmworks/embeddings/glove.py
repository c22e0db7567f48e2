"""Texts to word vectors by GloVe (Pennington et al. 2014): neighbours are counted, and the table is factorised."""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lmworks.embeddings import library
from lmworks.embeddings.config import GloveConfig
from lmworks.embeddings.corpus import END, blocks, on_disk, training_corpus
from lmworks.embeddings.negative_sampling import dot
from lmworks.embeddings.word2vec import check_learnt, in_turn
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.progress import Report, no_report

PAIR = np.dtype([("key", np.int64), ("value", np.float64)])
ENTRY = np.dtype([("word", np.int32), ("context", np.int32), ("count", np.float32)])
_BLOCK = 1 << 19  # ids that are counted at once
_PAIR_BYTES = 4 * PAIR.itemsize  # of memory for each pair that is held: merging needs copies
_PART = 100_000  # entries that are learnt from in one call


def train_glove(texts: Iterable[str | Sequence[str]], config: GloveConfig, progress: Report = no_report) -> WordVectors:
    """Vectors of the words of texts, or of sentences that are lists of words; texts are read once (corpus.py).

    A word's vector is the sum of its two, as a word and as a neighbour (section 4.2). ValueError when fewer than two
    different words are frequent enough, and when learning diverges.
    """
    corpus = training_corpus(texts, config, progress)
    entries = count_neighbours(
        corpus.ids, len(corpus.words), config.window, memory_mb=config.memory_mb, seed=config.seed, progress=progress
    )
    factors = new_factors(len(corpus.words), config)
    _factorise(entries, factors, config, progress)
    vectors = factors.rows[0][:, : config.dimensions] + factors.rows[1][:, : config.dimensions]
    return WordVectors(corpus.words, vectors, corpus.counts)


# ---------------------------------------------------------------------------------------------------------------------
# Counting neighbours


def count_neighbours(
    ids: np.ndarray, words: int, window: int, *, memory_mb: int = 1024, seed: int = 0, progress: Report = no_report
) -> np.ndarray:
    """Cooccurrence counts of a text of ids, with -1 behind each sentence: (n,) of `ENTRY`, mapped from disk.

    Every pair of words that are neighbours is there in both directions, in an order that is random but the same for the
    same seed. The counts do not depend on `memory_mb`.
    """
    limit = memory_mb * (1 << 20) // _PAIR_BYTES
    runs: list[np.ndarray] = []
    held: list[np.ndarray] = []
    done = 0
    for block in blocks(ids, _BLOCK):
        held.append(_pairs(block, words, window))
        if sum(map(len, held)) > limit:
            held = [_added_up(held)]
            if len(held[0]) > limit // 2:
                runs.append(on_disk(held, PAIR))
                held = []
        done += len(block)
        progress(done, len(ids), "words counted")
    runs += held
    return on_disk(_shuffled(_merged(runs, limit), words, limit, seed), ENTRY)


def _pairs(ids: np.ndarray, words: int, window: int) -> np.ndarray:
    """(n,) of `PAIR`, sorted by key = smaller id * words + larger id: one block's pairs with their sums of 1/distance.

    The distance is the last part of what is sorted, so that one sort of integers groups and the sums have one order.
    """
    ids = ids.astype(np.int64)
    sentence = np.cumsum(ids == END)
    found = []
    for distance in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-distance], ids[distance:]
        together = (sentence[:-distance] == sentence[distance:]) & (left != END) & (right != END)
        left, right = left[together], right[together]
        found.append((np.minimum(left, right) * words + np.maximum(left, right)) * (window + 1) + distance)
    keys = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
    pairs = np.empty(len(keys), PAIR)
    pairs["key"], pairs["value"] = keys // (window + 1), 1.0 / (keys % (window + 1))
    return _grouped(pairs)


def _grouped(pairs: np.ndarray) -> np.ndarray:
    """Sorted pairs with those of one key added up."""
    if not len(pairs):
        return pairs
    starts = np.flatnonzero(np.append(True, pairs["key"][1:] != pairs["key"][:-1]))
    result = np.empty(len(starts), PAIR)
    result["key"], result["value"] = pairs["key"][starts], np.add.reduceat(pairs["value"], starts)
    return result


def _added_up(parts: Sequence[np.ndarray]) -> np.ndarray:
    together = np.concatenate(parts)
    return _grouped(together[np.argsort(together["key"], kind="stable")])


def _merged(runs: Sequence[np.ndarray], limit: int) -> Iterator[np.ndarray]:
    """The runs, each sorted, as one, in pieces of at most about `limit` pairs."""
    if not runs:
        return
    pieces = 1 + sum(map(len, runs)) // limit
    longest = max(runs, key=len)
    borders = longest["key"][np.arange(1, pieces) * len(longest) // pieces]
    cut = [np.concatenate([[0], np.searchsorted(run["key"], borders), [len(run)]]) for run in runs]
    for piece in range(pieces):
        parts = [np.asarray(run[ends[piece] : ends[piece + 1]]) for run, ends in zip(runs, cut, strict=True)]
        yield _added_up(parts)


def _shuffled(pieces: Iterator[np.ndarray], words: int, limit: int, seed: int) -> Iterator[np.ndarray]:
    """Pairs as entries in both directions, in random order: thrown into boxes that fit into memory, then each mixed."""
    generator = np.random.default_rng(seed)
    thrown: list[np.ndarray] = []
    for piece in pieces:
        entries = _entries(piece, words)
        thrown.append(on_disk([entries[generator.permutation(len(entries))]], ENTRY))
    boxes = 1 + sum(map(len, thrown)) // limit
    for box in range(boxes):  # a mixed piece's part is a random one
        parts = [part[box * len(part) // boxes : (box + 1) * len(part) // boxes] for part in thrown]
        together = np.concatenate(parts) if parts else np.empty(0, ENTRY)
        yield together[generator.permutation(len(together))]


def _entries(pairs: np.ndarray, words: int) -> np.ndarray:
    """A word that is its own neighbour counts once from either side, as the sum over places has it."""
    first, second = pairs["key"] // words, pairs["key"] % words
    two = first != second
    entries = np.empty(len(pairs) + int(two.sum()), ENTRY)
    entries["word"] = np.concatenate([first, second[two]])
    entries["context"] = np.concatenate([second, first[two]])
    entries["count"] = np.concatenate([np.where(two, 1, 2) * pairs["value"], pairs["value"][two]])
    return entries


# ---------------------------------------------------------------------------------------------------------------------
# Factorising the table (equations 8 and 9)


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Both sides of the factorisation: [0] words, [1] the words next to them.

    rows, row_squares      (words, width) float32 each: rows as in `library.zero_rows`
    biases, bias_squares   (words,) float32 each
    """

    rows: tuple[np.ndarray, np.ndarray]
    row_squares: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    bias_squares: tuple[np.ndarray, np.ndarray]
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
        row, other = factors.rows[0][word], factors.rows[1][context]
        error = dot(row[None], other)[0] + factors.biases[0][word] + factors.biases[1][context] - logarithm
        factor = weight * error
        loss += 0.5 * float(factor) * float(error)
        gradients = (factor * other, factor * row)
        for side, place in enumerate((word, context)):
            factors.row_squares[side][place] += gradients[side] * gradients[side]
            factors.rows[side][place] -= rate * gradients[side] / np.sqrt(factors.row_squares[side][place])
            factors.bias_squares[side][place] += factor * factor
            factors.biases[side][place] -= rate * factor / np.sqrt(factors.bias_squares[side][place])
    return loss


def new_factors(words: int, config: GloveConfig) -> Factors:
    """Rows and biases are uniform between -0.5 and 0.5, over the dimensions, as in the program of the paper."""
    generator = np.random.default_rng(config.seed)

    def begin(shape: tuple[int, ...]) -> np.ndarray:
        return (generator.random(shape, np.float32) - np.float32(0.5)) / np.float32(config.dimensions)

    def rows() -> np.ndarray:
        made = library.zero_rows(words, config.dimensions)
        made[:, : config.dimensions] = begin((words, config.dimensions))
        return made

    def squares() -> np.ndarray:
        return library.zero_rows(words, config.dimensions, fill=1.0)

    ones = (np.ones(words, np.float32), np.ones(words, np.float32))
    biases = (begin((words,)), begin((words,)))
    return Factors((rows(), rows()), (squares(), squares()), biases, ones, config.learning_rate)


def _factorise(entries: np.ndarray, factors: Factors, config: GloveConfig, progress: Report) -> None:
    learn = _learner(factors)

    def job(start: int) -> float:
        part = entries[start : start + _PART]
        counts = part["count"]
        return learn(
            part["word"].copy(), part["context"].copy(), np.log(counts),
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
    structure = library.Factors(parts=factors.rows[0].shape[1] // library.LANES, rate=factors.learning_rate)
    for name in ("rows", "row_squares", "biases", "bias_squares"):
        for side in range(2):
            getattr(structure, name)[side] = getattr(factors, name)[side].ctypes.data

    def learn(words: np.ndarray, contexts: np.ndarray, logarithms: np.ndarray, weights: np.ndarray) -> float:
        loss = ctypes.c_double()
        pointers = (array.ctypes.data for array in (words, contexts, logarithms, weights))
        library.check(compiled.lmworks_glove_learn(ctypes.byref(structure), *pointers, len(words), ctypes.byref(loss)))
        return loss.value

    return learn
