"""Skip-gram and CBOW: the gradient against autograd, the compiled part against the reference, and what is learnt."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kit.tables import for_each
from lmworks.embeddings import library, negative_sampling, word2vec
from lmworks.embeddings.config import Subwords, WordVectorsConfig
from lmworks.embeddings.corpus import read_corpus
from lmworks.embeddings.negative_sampling import Model, Noise, Random, keep_limits, noise, stream_seed
from lmworks.embeddings.word2vec import structure_of, train_word_vectors


def test_random_numbers_are_splitmix64():
    """The first outputs for seed 1234567, as the algorithm's reference implementation prints them."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    random = Random(1234567)
    assert [*random.draw(2).tolist(), *random.draw(3).tolist()] == expected


def test_streams_differ():
    seeds = {stream_seed(a, b, c) for a in range(4) for b in range(4) for c in range(16)}
    assert len(seeds) == 256 and stream_seed(1, 2, 3) == stream_seed(1, 2, 3)


def share(table: Noise) -> np.ndarray:
    """The probability of each word, from the table itself: no sampling error."""
    own = (table.limits.astype(np.float64) + 1) / 2**32
    result = own.copy()
    np.add.at(result, table.aliases, 1 - own)
    return result / len(own)


@for_each("power", [0.0, 0.75, 1.0])
def test_noise_has_the_distribution_of_the_paper(power):
    counts = np.array([100_000, 5000, 300, 300, 17, 1, 1], np.int64)
    wanted = counts**power / (counts**power).sum()
    np.testing.assert_allclose(share(noise(counts, power)), wanted, atol=2e-9)  # limits have 32 bits


def test_draws_follow_the_table():
    counts = np.array([500, 90, 30, 4], np.int64)
    drawn = np.bincount(noise(counts, 0.75).draw(Random(3).draw(200_000)), minlength=4)
    wanted = counts**0.75 / (counts**0.75).sum() * 200_000
    assert chisquare(drawn, wanted).pvalue > 0.001  # the seed is fixed


def test_frequent_words_are_kept_as_equation_5_says():
    counts = np.array([900_000, 99_000, 1000], np.int64)
    kept = (keep_limits(counts, 1e-3).astype(np.float64) + 1) / 2**32
    np.testing.assert_allclose(kept, np.minimum(1, np.sqrt(1e-3 / (counts / 1e6))), atol=1e-9)
    assert (keep_limits(counts, 0) == 2**32 - 1).all()


CASES = {
    "skip-gram": WordVectorsConfig(dimensions=20, min_count=1, epochs=2, subsample=1e-2, learning_rate=0.2),
    "cbow": WordVectorsConfig(
        16, objective="cbow", window=3, negative=7, epochs=2, min_count=2, subsample=0, learning_rate=0.2
    ),
    "skip-gram with subwords": WordVectorsConfig(
        dimensions=33, min_count=1, epochs=1, subwords=Subwords(2, 3, 50), learning_rate=0.2
    ),
    "cbow with subwords": WordVectorsConfig(
        8, objective="cbow", epochs=1, max_words=40, subwords=Subwords(1, 9), learning_rate=0.2
    ),
}


def random_model(rows: int, words: int, dimensions: int) -> Model:
    generator = np.random.default_rng(3)
    arrays = [library.zero_rows(number, dimensions) for number in (rows, words)]
    for array in arrays:
        array[:, :dimensions] = generator.normal(0, 0.4, (len(array), dimensions))
    none = word2vec.negative_sampling.noise(np.ones(words, np.int64), 1)
    keep = np.full(words, 2**32 - 1, np.uint32)
    return Model(*arrays, None, None, keep, none, 100, 0.05, 2, 3, True)


@for_each("inputs", [[4], [1, 0, 5], [2, 2, 3]])
def test_a_step_goes_down_the_gradient_of_the_loss(inputs):
    """Autograd on equation 4 of the paper, in float64. Rows that occur twice, among the input and the noise, too."""
    model = random_model(6, 9, 20)
    targets, labels = np.array([3, 7, 7, 1, 0, 3]), np.array([1, 0, 0, 1, 0, 0], np.float32)
    rows = torch.tensor(model.input, dtype=torch.float64, requires_grad=True)
    outputs = torch.tensor(model.output, dtype=torch.float64, requires_grad=True)
    scores = outputs[targets] @ rows[inputs].mean(dim=0)
    signs = torch.tensor(2 * labels - 1, dtype=torch.float64)
    (-torch.nn.functional.logsigmoid(signs * scores).sum()).backward()
    before = model.input.copy(), model.output.copy()
    negative_sampling.step(model, np.array(inputs), targets, labels, np.float32(0.05))
    assert rows.grad is not None and outputs.grad is not None
    changed = (model.input - before[0]) / 0.05, (model.output - before[1]) / 0.05
    # The sigmoid is 3e-6 off, sums are of float32, and the difference of rows loses digits: 1e-7 / 0.05.
    np.testing.assert_allclose(changed[0], -len(inputs) * rows.grad.numpy(), atol=2e-5)
    np.testing.assert_allclose(changed[1], -outputs.grad.numpy(), atol=2e-5)


def test_the_table_of_the_sigmoid_is_as_near_as_it_says():
    x = np.linspace(-10, 10, 100_001).astype(np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(negative_sampling.sigmoid(x) - exact).max() < 3.2e-6
    assert np.abs(negative_sampling.sigmoid(np.float32([-99, 99])) - [0, 1]).max() < 4.6e-5


def test_nan_is_no_place_outside_the_table():
    assert negative_sampling.sigmoid(np.float32([np.nan, np.inf, -np.inf])) == pytest.approx([0, 1, 0], abs=4.6e-5)


@for_each("compiled", [True, False])
@for_each("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the overflow that is meant
def test_vectors_that_diverge_are_an_error(name, compiled, sentences, monkeypatch):
    if not compiled:
        monkeypatch.setattr(library, "load", lambda: None)
    told = []
    config = replace(CASES[name], learning_rate=1e30, epochs=3)
    with pytest.raises(ValueError, match=r"learning diverged: lower learning_rate \(it is 1e\+30\)"):
        train_word_vectors(sentences[:100], config, lambda done, *_: told.append(done))
    assert len(told) == 1  # the first epoch is enough to see it


@pytest.mark.skipif(library.load() is None, reason="nothing was compiled")
@pytest.mark.parametrize("name", CASES)
def test_compiled_and_reference_are_the_same_bit_by_bit(name, sentences, monkeypatch):
    monkeypatch.setattr(word2vec, "_PART", 2000)  # several parts, each with its own random numbers
    compiled = train_word_vectors(sentences[:600], CASES[name])
    monkeypatch.setattr(library, "load", lambda: None)
    slow = train_word_vectors(sentences[:600], CASES[name])
    assert compiled.words == slow.words
    assert compiled.vectors.tobytes() == slow.vectors.tobytes()
    assert np.abs(compiled.vectors).max() > 0.05  # something was learnt
    if compiled.ngrams is not None and slow.ngrams is not None:
        assert compiled.ngrams.vectors.tobytes() == slow.ngrams.vectors.tobytes()


@pytest.mark.skipif(library.load() is None, reason="nothing was compiled")
def test_both_count_the_words_that_they_keep(sentences):
    config = WordVectorsConfig(dimensions=4, subsample=1e-3, min_count=1)
    corpus = read_corpus(sentences[:200], config)
    model, _ = word2vec._new_model(corpus, config)
    ids, structure = np.array(corpus.ids), structure_of(model)
    compiled = library.load().lmworks_vectors_learn(ctypes.byref(structure), ids.ctypes.data, len(ids), 9, 0)
    assert compiled == negative_sampling.learn(model, ids, 9, 0)
    wanted = (corpus.counts * np.minimum(1, np.sqrt(1e-3 * corpus.counts.sum() / corpus.counts))).sum()
    assert compiled == pytest.approx(wanted, rel=0.15)  # about 400 words are kept: 3 standard deviations


@for_each("name", CASES)
def test_words_that_are_used_alike_are_near(name, sentences):
    """Words 0, 3, 6, ... keep company, and so do 1, 4, 7, ..., and 2, 5, 8, ...: see conftest.py."""
    config = replace(CASES[name], epochs=15, learning_rate=0.1, subwords=None)
    found = train_word_vectors(sentences, config)
    kinds = np.array([int(word[1:]) % 3 for word in found.words])
    same = kinds[:, None] == kinds[None]
    cosines = found.unit @ found.unit.T
    np.fill_diagonal(cosines, np.nan)
    assert np.nanmean(cosines[same]) > np.nanmean(cosines[~same]) + 0.3


def test_several_threads_learn_as_well(sentences, monkeypatch):
    monkeypatch.setattr(word2vec, "_PART", 500)
    config = WordVectorsConfig(dimensions=20, epochs=15, learning_rate=0.1, subsample=0, threads=3)
    found = train_word_vectors(sentences, config)
    right = [int(near.word[1:]) % 3 == int(word[1:]) % 3 for word in found.words for near in found.neighbours(word, 3)]
    assert np.mean(right) > 0.8


def test_progress_is_told_and_ends_at_the_end(sentences):
    told = []
    config = WordVectorsConfig(dimensions=4, epochs=3, min_count=1)
    train_word_vectors(sentences, config, lambda *given: told.append(given))
    words = sum(map(len, sentences))
    assert told[-1] == (3 * words, 3 * words, "words learnt")


@for_each(
    ("settings", "message"),
    [
        ({"objective": "glove"}, "skip-gram, cbow"),
        ({"dimensions": 0}, "dimensions must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0"),
        ({"subsample": -1.0}, "subsample"),
        ({"phrases": (0.0,)}, "phrases"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WordVectorsConfig(**settings)


def test_bad_subwords_are_refused():
    with pytest.raises(ValueError, match="shortest must lie between 1 and 3"):
        Subwords(4, 3)
    with pytest.raises(ValueError, match="buckets must lie between"):
        Subwords(buckets=1 << 31)


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="only 0 different words occur 5 times"):
        train_word_vectors(["A short text."], WordVectorsConfig())
