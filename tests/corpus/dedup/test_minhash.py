"""Signatures with the mean and the variance of the closed form; bands on its S-curve; pairs of buckets by comparing
all, and confirmed by their true similarity."""

from itertools import combinations

import numpy as np
import pytest
from duplicate_cases import true_jaccard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad

from kit.tables import for_each
from lmworks.corpus.dedup.hashes import HashRows
from lmworks.corpus.dedup.library import hash_words, shingle_sets
from lmworks.corpus.dedup.library import signatures as sign
from lmworks.corpus.dedup.minhash import (
    FALSE_POSITIVES,
    NO_KEY,
    Bands,
    band_keys,
    candidate_pairs,
    choose_bands,
    verify,
)

TRIALS, PLACES = 1500, 64
KEYS = st.tuples(st.integers(0, 14), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.uint64, shape, elements=st.sampled_from([1, 2, 3, 2**64 - 1]))
)
TEXTS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(" ".join), min_size=2, max_size=7)


def signatures(texts: list[str], size: int = 5, permutations: int = 128) -> np.ndarray:
    return sign(hash_words(texts), size, permutations)


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.mean(first == second, axis=-1)


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
    return both / (both + 2 * alone), agreement(*signed)


@for_each(("union", "similarity"), [(40, 0.95), (120, 0.2), (1000, 0.5), (1000, 0.8)])
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


@for_each(
    ("choice", "similarity"),
    [(Bands(14, 9), 0.6), (Bands(14, 9), 0.8), (Bands(20, 5), 0.6), (Bands(1, 1), 0.3), (Bands(3, 40), 0.95)],
)
def test_the_share_of_candidates_lies_on_the_curve(choice, similarity):
    """Signatures whose places agree independently with the probability of the similarity."""
    pairs = 4000
    generator = np.random.default_rng(choice.rows)
    first = generator.integers(0, 2**32 - 1, (pairs, 140), np.uint32)
    other = generator.integers(0, 2**32 - 1, (pairs, 140), np.uint32)
    second = np.where(generator.random(first.shape) < similarity, first, other)
    share = (band_keys(first, choice) == band_keys(second, choice)).any(axis=1).mean()
    expected = float(choice.probability(similarity))
    assert abs(share - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / pairs) + 1e-9


@for_each("threshold", [0.3, 0.5, 0.8, 0.93])
def test_the_choice_is_the_best_by_quadrature(threshold):
    places = 24

    def cost(choice: Bands) -> float:
        positive = quad(lambda s: float(choice.probability(s)), 0, threshold)[0]
        negative = quad(lambda s: 1 - float(choice.probability(s)), threshold, 1)[0]
        return FALSE_POSITIVES * positive + (1 - FALSE_POSITIVES) * negative

    costs = {(b, r): cost(Bands(b, r)) for b in range(1, places + 1) for r in range(1, places // b + 1)}
    chosen = choose_bands(threshold, places)
    assert costs[chosen.bands, chosen.rows] == pytest.approx(min(costs.values()), abs=1e-9)


@given(KEYS, st.integers(1, 5))
def test_pairs_and_large_buckets_are_those_of_the_buckets(keys, bucket_limit):
    pairs: set[tuple[int, int]] = set()
    large: set[tuple[int, ...]] = set()
    for band in range(keys.shape[1]):
        for key in {*keys[:, band].tolist()} - {int(NO_KEY)}:
            members = np.flatnonzero(keys[:, band] == key).tolist()
            if len(members) > bucket_limit:
                large.add(tuple(members))
            else:
                pairs |= {*combinations(members, 2)}
    large_buckets: dict[bytes, np.ndarray] = {}
    found = [tuple(pair) for part in candidate_pairs(keys, bucket_limit, large_buckets) for pair in part.tolist()]
    assert sorted(found) == sorted(pairs)  # each once
    assert sorted(tuple(each.tolist()) for each in large_buckets.values()) == sorted(large)


@given(TEXTS, st.floats(0.05, 1), st.integers(1, 5), st.data())
def test_the_pairs_are_those_that_are_similar_enough(texts, threshold, parts, data):
    everything = list(combinations(range(len(texts)), 2))
    chosen = data.draw(st.lists(st.sampled_from(everything), unique=True))
    candidates = [np.array(chosen[part::parts], np.int64).reshape(-1, 2) for part in range(parts)]
    found, number = verify(candidates, lambda documents: shingle_sets([texts[d] for d in documents], 2), threshold)
    expected = {pair: value for pair in chosen if (value := true_jaccard(*(texts[d] for d in pair), 2)) >= threshold}
    rows = zip(found.first.tolist(), found.second.tolist(), found.similarity.tolist(), strict=True)
    assert sorted(rows) == sorted((*pair, value) for pair, value in expected.items())
    assert number == len(chosen)
