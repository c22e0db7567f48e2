"""Texts to word vectors by GloVe (Pennington et al. 2014): neighbours are counted, and the table is factorised."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from lmworks.embeddings import library
from lmworks.embeddings.config import GloveConfig
from lmworks.embeddings.cooccurrence import Cooccurrences, count_neighbours
from lmworks.embeddings.corpus import Corpus, training_corpus
from lmworks.embeddings.glove_reference import Factors, learn_entries, weights
from lmworks.embeddings.training import check_learnt, in_turn
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.progress import Report, no_report

_PART = 100_000  # entries that are learnt from in one call


def train_glove(texts: Iterable[str | Sequence[str]], config: GloveConfig, progress: Report = no_report) -> WordVectors:
    """Vectors of the words of texts, or of sentences that are lists of words; texts are read once (corpus.py).

    A word's vector is the sum of its two, as a word and as a neighbour (section 4.2). ValueError when fewer than two
    different words are frequent enough, and when learning diverges.
    """
    return train_glove_on(training_corpus(texts, config, progress), config, progress)


def train_glove_on(corpus: Corpus, config: GloveConfig, progress: Report = no_report) -> WordVectors:
    """The same from a text that was read already."""
    table = count_neighbours(
        corpus.ids, len(corpus.words), config.window, memory_mb=config.memory_mb, seed=config.seed, progress=progress
    )
    factors = new_factors(len(corpus.words), config)
    _factorise(table, factors, config, progress)
    vectors = factors.rows[0][:, : config.dimensions] + factors.rows[1][:, : config.dimensions]
    return WordVectors(corpus.words, vectors, corpus.counts)


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


def _factorise(table: Cooccurrences, factors: Factors, config: GloveConfig, progress: Report) -> None:
    learn = _learner(factors)
    entries = table.entries

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
