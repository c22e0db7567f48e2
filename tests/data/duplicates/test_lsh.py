"""Bands: the S-curve of the closed form, the best choice by quadrature, and pairs of buckets by comparing all."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad

from lmworks.data.duplicates.lsh import NO_KEY, Bands, band_keys, candidate_pairs, choose_bands, crowds
from lmworks.data.duplicates.minhash import sign, signatures
from lmworks.data.duplicates.rows import HashRows

KEYS = st.tuples(st.integers(0, 14), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.uint64, shape, elements=st.sampled_from([1, 2, 3, 2**64 - 1]))
)


@pytest.mark.parametrize("choice", [Bands(14, 9), Bands(20, 5), Bands(1, 1), Bands(3, 40)])
@pytest.mark.parametrize("similarity", [0.3, 0.6, 0.8, 0.95])
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


@pytest.mark.parametrize("union", [30, 800])
def test_signatures_of_sets_lie_on_it_too(union):
    """Places of a signature are not quite independent; for the sizes of real texts nothing is seen of it."""
    pairs, both = 3000, round(union * 0.8)
    alone = (union - both) // 2
    values = np.random.default_rng(union).integers(0, 2**64, (pairs, both + 2 * alone), np.uint64)
    size, choice = both + alone, Bands(14, 9)
    ends = np.arange(1, pairs + 1) * size
    sides = values[:, :size], np.concatenate((values[:, :both], values[:, size:]), axis=1)
    keys = [band_keys(sign(HashRows(np.ascontiguousarray(side).ravel(), ends), 1), choice) for side in sides]
    share = (keys[0] == keys[1]).any(axis=1).mean()
    assert abs(share - choice.probability(both / (both + 2 * alone))) < 0.03


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.93])
@pytest.mark.parametrize("weight", [0.02, 0.5, 0.9])
def test_the_choice_is_the_best_by_quadrature(threshold, weight):
    places = 24

    def cost(choice: Bands) -> float:
        positive = quad(lambda s: float(choice.probability(s)), 0, threshold)[0]
        negative = quad(lambda s: 1 - float(choice.probability(s)), threshold, 1)[0]
        return weight * positive + (1 - weight) * negative

    costs = {(b, r): cost(Bands(b, r)) for b in range(1, places + 1) for r in range(1, places // b + 1)}
    chosen = choose_bands(threshold, places, weight)
    assert costs[chosen.bands, chosen.rows] == pytest.approx(min(costs.values()), abs=1e-9)


def test_the_default_misses_few_pairs_at_its_threshold():
    assert choose_bands(0.8, 128).probability(0.8) > 0.95
    assert choose_bands(0.8, 128).probability(0.4) < 0.05


@given(KEYS, st.integers(1, 5))
def test_pairs_and_crowds_are_those_of_the_buckets(keys, crowd):
    pairs: set[tuple[int, int]] = set()
    large: set[tuple[int, ...]] = set()
    for band in range(keys.shape[1]):
        for key in {*keys[:, band].tolist()} - {int(NO_KEY)}:
            members = np.flatnonzero(keys[:, band] == key).tolist()
            if len(members) > crowd:
                large.add(tuple(members))
            else:
                pairs |= {*combinations(members, 2)}
    found = [tuple(pair) for part in candidate_pairs(keys, crowd) for pair in part.tolist()]
    assert sorted(found) == sorted(pairs)  # each once
    assert sorted(tuple(each.tolist()) for each in crowds(keys, crowd)) == sorted(large)


def test_texts_without_a_word_are_no_candidates():
    keys = band_keys(signatures(["", "...", "one word", "One word."]), Bands(4, 2))
    assert (keys[:2] == NO_KEY).all()
    assert [pair for part in candidate_pairs(keys) for pair in part.tolist()] == [[2, 3]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="need 12 places"):
        band_keys(signatures(["a"], permutations=8), Bands(4, 3))
    with pytest.raises(ValueError, match="positive"):
        Bands(0, 3)
    with pytest.raises(ValueError, match="threshold"):
        choose_bands(1.0, 128)
