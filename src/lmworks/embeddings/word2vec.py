"""Texts to word vectors by skip-gram or CBOW with negative sampling, with or without subwords.

The text is cut into parts of whole sentences. Each part has random numbers and learning rates of its own, which depend
on the seed, the epoch and its place in the text. So one thread learns the same on every machine, bit by bit, compiled
or not. Several threads take the parts in turn and write into the same rows without locks (Hogwild, Recht et al. 2011):
they draw the same numbers, but in which order updates meet a row is chance.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, product

import numpy as np

from lmworks.compiled import cores
from lmworks.embeddings import library, negative_sampling
from lmworks.embeddings.config import WordVectorsConfig
from lmworks.embeddings.corpus import END, Corpus, cuts, training_corpus
from lmworks.embeddings.negative_sampling import Model
from lmworks.embeddings.subwords import NGrams, ngram_buckets
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.progress import Report, no_report

_PART = 50_000  # words that are learnt from in one call


def train_word_vectors(
    texts: Iterable[str | Sequence[str]], config: WordVectorsConfig, progress: Report = no_report
) -> WordVectors:
    """Vectors of the words of texts, or of sentences that are lists of words; texts are read once (corpus.py).

    ValueError when fewer than two different words are frequent enough, and when learning diverges.
    """
    return train_on(training_corpus(texts, config, progress), config, progress)


def train_on(corpus: Corpus, config: WordVectorsConfig, progress: Report = no_report) -> WordVectors:
    """Word vectors from a text that was read already."""
    model, buckets = _new_model(corpus, config)
    learn = _learner(model)
    batches = [corpus.ids[start:stop] for start, stop in cuts(corpus.ids, _PART)]
    words = [int(np.count_nonzero(batch != END)) for batch in batches] * config.epochs  # of each job
    before = [0, *accumulate(words)]
    jobs = [
        partial(learn, batch, negative_sampling.stream_seed(config.seed, epoch, number), done)
        for done, (epoch, (number, batch)) in zip(
            before, product(range(config.epochs), enumerate(batches)), strict=False
        )
    ]
    for number, _ in enumerate(in_turn(jobs, config.threads), start=1):
        progress(before[number], before[-1], "words learnt")
        if number % len(batches) == 0:
            check_learnt((model.input, model.output), config.learning_rate)
    size, rows = len(corpus.words), model.input[:, : config.dimensions]
    if config.subwords is None:
        return WordVectors(corpus.words, rows.copy(), corpus.counts)
    # A word's vector is the mean of its rows, as while it was learnt.
    vectors = np.stack([rows[model.rows_of(word)].mean(axis=0) for word in range(size)])
    return WordVectors(corpus.words, vectors, corpus.counts, NGrams(config.subwords, buckets, rows[size:].copy()))


def check_learnt(arrays: Iterable[np.ndarray], learning_rate: float) -> None:
    """ValueError for vectors that diverged: they hold infinities and NaN, or numbers too large to have lengths."""
    with np.errstate(all="ignore"):
        finite = all(np.isfinite(np.vdot(rows, rows)) for rows in arrays)
    if not finite:
        raise ValueError(f"learning diverged: lower learning_rate (it is {learning_rate:g})")


def in_turn(jobs: Sequence[Callable[[], float]], threads: int) -> Iterator[float]:
    """Runs jobs in order on so many threads, 0 for one a core; what has not begun when the caller stops is left."""
    count = threads or cores()
    if count == 1 or library.load() is None:  # Python's lock lets only compiled code run at once
        yield from (job() for job in jobs)
        return
    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(lambda job: job(), jobs)
    finally:
        pool.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def _new_model(corpus: Corpus, config: WordVectorsConfig) -> tuple[Model, np.ndarray]:
    """The model, and the buckets of n-grams that have rows in it.

    Input rows are uniform between -1 and 1, over the dimensions, as in fastText's program; output rows are 0.
    """
    size, buckets, rows, row_ends = len(corpus.words), np.zeros(0, np.int32), None, None
    if config.subwords is not None:  # the rows of n-grams lie behind those of all words
        all_buckets, ends = ngram_buckets(corpus.words, config.subwords)
        buckets, numbers = np.unique(all_buckets, return_inverse=True)
        buckets = buckets.astype(np.int32)
        # The rows that words are made of, one word's behind the other's, its own first.
        rows = np.insert(size + numbers, np.append(0, ends[:-1]), np.arange(size)).astype(np.int32)
        row_ends = ends + np.arange(1, size + 1)
    vectors = library.zero_rows(size + len(buckets), config.dimensions)
    generator = np.random.default_rng(config.seed)
    for start in range(0, len(vectors), 1 << 16):
        block = vectors[start : start + (1 << 16), : config.dimensions]
        block[:] = (2 * generator.random(block.shape, np.float32) - 1) / np.float32(config.dimensions)
    model = Model(
        input=vectors,
        output=library.zero_rows(size, config.dimensions),
        row_ends=row_ends,
        rows=rows,
        keep=negative_sampling.keep_limits(corpus.counts, config.subsample),
        noise=negative_sampling.noise(corpus.counts, config.noise_power),
        words=int(corpus.counts.sum()) * config.epochs,
        learning_rate=config.learning_rate,
        window=config.window,
        negative=config.negative,
        skip_gram=config.objective == "skip-gram",
    )
    return model, buckets


# ---------------------------------------------------------------------------------------------------------------------
# The compiled part, or the reference


def _learner(model: Model) -> Callable[[np.ndarray, int, int], int]:
    compiled = library.load()
    if compiled is None:
        return partial(negative_sampling.learn, model)
    structure = structure_of(model)

    def learn(ids: np.ndarray, seed: int, done: int) -> int:
        result = compiled.lmworks_vectors_learn(ctypes.byref(structure), ids.ctypes.data, len(ids), seed, done)
        return library.check(result)

    return learn


def structure_of(model: Model) -> library.Model:
    """The model as the library takes it; its arrays must outlive the structure."""

    def address(array: np.ndarray | None) -> int | None:
        return None if array is None else array.ctypes.data

    return library.Model(
        input=address(model.input), output=address(model.output), row_ends=address(model.row_ends),
        rows=address(model.rows), keep=address(model.keep), limits=address(model.noise.limits),
        others=address(model.noise.aliases), sigmoid=address(negative_sampling.SIGMOID),
        parts=model.input.shape[1] // library.LANES, words=model.words, rate=model.learning_rate,
        sigmoid_limit=negative_sampling.SIGMOID_LIMIT, sigmoid_density=negative_sampling.SIGMOID_DENSITY,
        table_size=len(model.noise.limits), window=model.window, negative=model.negative, skip_gram=model.skip_gram,
    )  # fmt: skip
