"""Mixing: quotas by their definition, and an order that keeps each source at its share all the time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.balance.quotas import quotas, temperature_weights
from lmworks.data.config import LARGEST
from lmworks.data.mixture import Mixture

QUOTAS = st.lists(st.integers(0, 400) | st.integers(0, 4), min_size=1, max_size=9).filter(any)


def orders(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    return mixture.draw(np.arange(mixture.total))


# ---------------------------------------------------------------------------------------------------------------------
# Quotas


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.none() | st.integers(0, 500)), min_size=1, max_size=8),
    st.integers(1, 3000),
)
def test_quotas_are_water_filling(sources, total):
    weights, caps = [weight for weight, _ in sources], [cap for _, cap in sources]
    if None not in caps and sum(caps) < total:
        with pytest.raises(ValueError, match="raise max_epochs"):
            quotas(weights, caps, total)
        return
    found = quotas(weights, caps, total)
    assert sum(found) == total
    assert all(cap is None or quota <= cap for quota, cap in zip(found, caps, strict=True))
    # One level fits all: who is below its cap has level·weight, who is at its cap would have more; up to rounding.
    lowest = max((q - 1) / w for q, w in zip(found, weights, strict=True))
    highest = min(
        ((q + 1) / w for q, w, cap in zip(found, weights, caps, strict=True) if q != cap), default=float("inf")
    )
    assert lowest <= highest * (1 + 1e-12)


def test_quotas_worked_by_hand():
    assert quotas([1, 1, 2], [None, None, None], 8) == [2, 2, 4]
    assert quotas([1, 1, 2], [None, None, 2], 8) == [3, 3, 2]  # what the third lacks, the others share
    assert quotas([1, 9, 10], [None, 3, None], 25) == [2, 3, 20]
    assert quotas([1, 1, 1], [None, None, None], 4) == [2, 1, 1]  # the remainder goes to the first
    assert quotas([5, 5], [3, 3], 6) == [3, 3]
    assert quotas([0.1, 0.2], [None, None], 30) == [10, 20]


def test_temperature_is_a_power_of_the_sizes():
    assert temperature_weights([100, 400], 1) == [0.25, 1]
    assert temperature_weights([100, 400], 2) == [0.5, 1]
    assert temperature_weights([100, 400], 1e9) == pytest.approx([1, 1])


# ---------------------------------------------------------------------------------------------------------------------
# Order


@given(QUOTAS)
def test_every_prefix_of_the_run_keeps_the_shares_and_the_run_the_quotas(wanted):
    mixture = Mixture(wanted)
    sources, _ = orders(mixture)
    drawn = np.cumsum(sources[:, None] == np.arange(len(wanted)), axis=0)  # (draws, sources)
    exact = np.arange(1, mixture.total + 1)[:, None] * (np.array(wanted) / mixture.total)
    assert (np.abs(drawn - exact).max(axis=0) <= np.array(mixture.bounds) + 1e-9).all()
    assert max(mixture.bounds) < 1.7
    assert drawn[-1].tolist() == wanted


@given(QUOTAS, st.data())
def test_a_draw_knows_its_source_and_index_without_those_before(wanted, data):
    mixture = Mixture(wanted)
    sources, index = orders(mixture)
    for source, quota in enumerate(wanted):
        assert index[sources == source].tolist() == list(range(quota))
    k = data.draw(st.integers(0, mixture.total - 1))
    assert [int(found[0]) for found in mixture.draw(np.array([k]))] == [sources[k], index[k]]
    assert mixture.drawn(k) == np.bincount(sources[:k], minlength=len(wanted)).tolist()


@given(st.lists(st.integers(1, LARGEST // 60), min_size=2, max_size=60), st.data())
def test_the_largest_runs_and_the_bound_for_any_tree(wanted, data):
    mixture = Mixture(wanted)
    assert max(mixture.bounds) < 1.7
    k = data.draw(st.integers(0, mixture.total - 1))
    drawn, after = mixture.drawn(k), mixture.drawn(k + 1)
    source, index = (int(found[0]) for found in mixture.draw(np.array([k])))
    assert [b - a for a, b in zip(drawn, after, strict=True)] == [int(i == source) for i in range(len(wanted))]
    assert index == drawn[source]
    assert all(
        abs(count - quota * k / mixture.total) <= bound + 1e-6
        for count, quota, bound in zip(drawn, wanted, mixture.bounds, strict=True)
    )
    assert mixture.drawn(mixture.total) == wanted


def test_two_sources_are_never_more_than_half_a_sequence_from_their_shares():
    assert Mixture([3, 7]).bounds == [0.5, 0.5]
    assert orders(Mixture([1, 1]))[0].tolist() in ([0, 1], [1, 0])


@given(st.lists(st.integers(1, LARGEST // 3), min_size=3, max_size=3))
def test_three_sources_are_less_than_a_sequence_from_their_shares(wanted):
    assert max(Mixture(wanted).bounds) < 1


def test_the_worst_tree_grows_like_fibonacci_numbers_and_stays_below_the_bound():
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert 1 < max(Mixture(fibonacci).bounds) < 1.7


def test_bad_quotas_and_draws_are_refused():
    for bad in ([-1, 2], [0, 0], [LARGEST, 1]):
        with pytest.raises(ValueError, match="quotas must"):
            Mixture(bad)
    for k in (-1, 4):
        with pytest.raises(IndexError, match="4 sequences"):
            Mixture([1, 3]).draw(np.array([k]))
