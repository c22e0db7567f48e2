"""GloVe: counting against the sum written out, steps against torch, the compiled part against the reference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.embeddings import glove, library
from lmworks.embeddings.config import GloveConfig
from lmworks.embeddings.corpus import read_corpus
from lmworks.embeddings.glove import (
    _factorise,
    _learner,
    count_neighbours,
    learn_entries,
    new_factors,
    train_glove,
    weights,
)
from lmworks.progress import no_report


def table_of(ids: list[int], words: int, window: int) -> np.ndarray:
    """The sum over places, written out."""
    table = np.zeros((words, words))
    for i, word in enumerate(ids):
        for j in range(i + 1, min(i + window + 1, len(ids))):
            if -1 in ids[i : j + 1]:
                break
            table[word, ids[j]] += 1 / (j - i)
            table[ids[j], word] += 1 / (j - i)
    return table


def dense(entries: np.ndarray, words: int) -> np.ndarray:
    table = np.zeros((words, words), np.float32)
    table[entries["word"], entries["context"]] = entries["count"]
    return table


@given(st.lists(st.integers(-1, 4), max_size=60), st.integers(1, 5))
def test_the_table_is_the_sum_over_places(ids, window):
    ids = [*ids, -1]
    found = count_neighbours(np.array(ids, np.int32), 5, window)
    np.testing.assert_allclose(dense(found, 5), table_of(ids, 5, window), rtol=1e-6)  # counts are kept as float32
    keys = found["word"].astype(np.int64) * 5 + found["context"]
    assert len(set(keys.tolist())) == len(keys)


def test_blocks_change_nothing(monkeypatch, sentences):
    index = {f"w{number}": number for number in range(60)}
    ids = np.array([number for s in sentences for number in [*(index[word] for word in s), -1]], np.int32)
    whole = count_neighbours(ids, 60, 4)
    monkeypatch.setattr(glove, "_BLOCK", 700)
    np.testing.assert_allclose(dense(count_neighbours(ids, 60, 4), 60), dense(whole, 60), rtol=1e-6)


def test_entries_are_mixed_and_the_same_for_the_same_seed(sentences):
    ids = np.random.default_rng(0).integers(0, 50, 5000).astype(np.int32)
    first, again, other = (count_neighbours(ids, 50, 3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert abs(np.corrcoef(np.arange(len(first)), first["word"])[0, 1]) < 0.05


def test_steps_are_those_of_torch():
    """Equation 8 with the weights of equation 9, by autograd and torch's AdaGrad, an entry at a time, in float64."""
    config = GloveConfig(dimensions=6, count_limit=10, learning_rate=0.05)
    factors = new_factors(5, config)
    generator = np.random.default_rng(1)
    entries = generator.integers(0, 5, (40, 2))
    counts = generator.uniform(0.2, 30, 40).astype(np.float32)
    parts = [*factors.rows, *factors.biases]
    theirs = [torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in parts]
    optimiser = torch.optim.Adagrad(theirs, lr=0.05, initial_accumulator_value=1.0, eps=0)
    losses = 0.0
    for (i, j), count in zip(entries.tolist(), counts.tolist(), strict=True):
        weight = (count / 10) ** 0.75 if count < 10 else 1.0
        error = theirs[0][i] @ theirs[1][j] + theirs[2][i] + theirs[3][j] - np.log(count)
        loss = weight * error**2 / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses += loss.item()
    ours = learn_entries(
        factors, entries[:, 0].astype(np.int32), entries[:, 1].astype(np.int32), np.log(counts),
        weights(counts, 10, 0.75),
    )  # fmt: skip
    assert ours == pytest.approx(losses, rel=1e-5)
    for mine, other in zip(parts, theirs, strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), atol=1e-5)  # forty steps in float32


@pytest.mark.skipif(library.load() is None, reason="nothing was compiled")
@pytest.mark.parametrize("dimensions", [3, 16, 50])
def test_compiled_and_reference_are_the_same_bit_by_bit(dimensions):
    config = GloveConfig(dimensions=dimensions)
    compiled, slow = new_factors(7, config), new_factors(7, config)
    generator = np.random.default_rng(2)
    words, contexts = (generator.integers(0, 7, 300).astype(np.int32) for _ in range(2))
    counts = generator.uniform(0.1, 300, 300).astype(np.float32)
    given = (words, contexts, np.log(counts), weights(counts, 100, 0.75))
    assert _learner(compiled)(*given) == learn_entries(slow, *given)
    for name in ("rows", "row_squares", "biases", "bias_squares"):
        for side in range(2):
            assert getattr(compiled, name)[side].tobytes() == getattr(slow, name)[side].tobytes(), name


def test_products_become_the_logarithms_of_counts(sentences):
    """With as many dimensions as words and all weights 1, the table can be met: w_i . w~_j + b_i + b~_j = ln X."""
    corpus = read_corpus(sentences[:300], GloveConfig(min_count=5))
    words = len(corpus.words)
    config = GloveConfig(dimensions=words, epochs=400, count_limit=1e-3, learning_rate=0.2)
    table, factors = count_neighbours(corpus.ids, words, 5), new_factors(words, config)
    _factorise(table, factors, config, no_report)
    products = factors.rows[0] @ factors.rows[1].T + factors.biases[0][:, None] + factors.biases[1]
    counts = dense(table, words)
    error = np.abs(products - np.log(np.where(counts > 0, counts, 1)))[counts > 0]
    assert error.max() < 0.05 and np.ptp(np.log(counts[counts > 0])) > 4


def test_words_that_share_neighbours_are_near(sentences):
    config = GloveConfig(dimensions=16, window=5, min_count=1, count_limit=10, epochs=50)
    found = train_glove(sentences, config)
    assert found.vectors.tobytes() == train_glove(sentences, config).vectors.tobytes()
    kinds = np.array([int(word[1:]) % 3 for word in found.words])
    same = kinds[:, None] == kinds[None]
    cosines = found.unit @ found.unit.T
    np.fill_diagonal(cosines, np.nan)
    assert np.nanmean(cosines[same]) > np.nanmean(cosines[~same]) + 0.3


@for_each("compiled", [True, False])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the overflow that is meant
def test_vectors_that_diverge_are_an_error(compiled, sentences, monkeypatch):
    if not compiled:
        monkeypatch.setattr(library, "load", lambda: None)
    with pytest.raises(ValueError, match=r"learning diverged: lower learning_rate \(it is 1e\+30\)"):
        train_glove(sentences[:100], GloveConfig(dimensions=8, learning_rate=1e30, epochs=2))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        GloveConfig(learning_rate=float("inf"))
    with pytest.raises(ValueError, match="count_limit must be above 0"):
        GloveConfig(count_limit=0)
    with pytest.raises(ValueError, match="window must be"):
        GloveConfig(window=0)
