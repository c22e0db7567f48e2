"""Signatures: the estimate has the mean and the variance of the closed form, and depends on the text alone."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from duplicate_cases import random_text
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.minhash import NOTHING, estimate, sign, signatures
from lmworks.data.duplicates.rows import HashRows

TRIALS, PLACES = 1500, 64


def random_pairs(union: int, similarity: float, seed: int) -> tuple[float, np.ndarray]:
    """(the true similarity, estimates) of pairs of random sets of single words."""
    both = round(union * similarity)
    alone = (union - both) // 2
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2**64, (TRIALS, both + 2 * alone), np.uint64)
    size = both + alone
    ends = np.arange(1, TRIALS + 1) * size
    first, second = values[:, :size], np.concatenate((values[:, :both], values[:, size:]), axis=1)
    signed = [sign(HashRows(np.ascontiguousarray(each).ravel(), ends), 1, PLACES) for each in (first, second)]
    return both / (both + 2 * alone), estimate(*signed)


@pytest.mark.parametrize("union", [40, 120, 1000])
@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_the_estimate_has_the_mean_and_the_variance_of_independent_places(union, similarity):
    """E = J and var = J (1 - J) / k. Shingles are thrown without repetition within a turn, so the variance is lower
    where a set is not much larger than the signature: by (U - k) / (U - 1) for a union of U, if one turn fills it."""
    true, estimates = random_pairs(union, similarity, seed=union)
    variance = true * (1 - true) / PLACES
    assert abs(estimates.mean() - true) < 4 * np.sqrt(variance / TRIALS)
    ratio = estimates.var() / variance
    assert ratio < 1.15  # four standard deviations of a variance of 1,500 values
    if union == 1000:
        assert ratio > 0.78  # 0.937, less as much


def test_equal_sets_agree_and_unlike_ones_do_not():
    generator = random.Random(0)
    texts = [random_text(generator, 40) for _ in range(20)]
    first, second = signatures(texts), signatures([text.upper() + " !" for text in texts])
    np.testing.assert_array_equal(first, second)
    assert (estimate(first[1:], first[:-1]) < 0.05).all()


@given(st.lists(st.text("abc ", max_size=30), max_size=8))
def test_a_signature_depends_on_its_own_text_alone(texts):
    together = signatures(texts, size=2, permutations=16)
    assert together.shape == (len(texts), 16)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(together[row], signatures([text], size=2, permutations=16)[0])


def test_workers_change_nothing():
    generator = random.Random(3)
    texts = [random_text(generator, generator.randrange(200)) for _ in range(64)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(signatures, [texts[start : start + 7] for start in range(0, 64, 7)]))
    np.testing.assert_array_equal(np.concatenate(parts), signatures(texts))


def test_a_text_without_a_word_has_no_signature():
    signed = signatures(["", "... !", "word"])
    assert (signed[:2] == NOTHING).all()
    assert not (signed[2] == NOTHING).any()


def test_another_seed_is_another_signature():
    text = [random_text(random.Random(0), 50)]
    assert not (signatures(text, seed=0) == signatures(text, seed=1)).any()
    repeated = np.array([estimate(signatures(text, seed=0), signatures(text, seed=seed))[0] for seed in range(2, 9)])
    assert (repeated < 0.05).all()


@pytest.mark.parametrize(
    "wrong, told", [({"size": 0}, "one word"), ({"permutations": 0}, "between"), ({"seed": -1}, "seed")]
)
def test_what_is_out_of_range_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        signatures(["a"], **wrong)
