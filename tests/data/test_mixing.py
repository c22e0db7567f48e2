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


@given(QUOTAS, st.data())
def test_every_prefix_of_the_run_keeps_the_shares_and_the_run_the_quotas(wanted, data):
    """By less than 1.7 sequences, and by less than one where there are up to three sources; each draw knows its source
    and index without those before."""
    mixture = Mixture(wanted)
    sources, index = orders(mixture)
    drawn = np.cumsum(sources[:, None] == np.arange(len(wanted)), axis=0)  # (draws, sources)
    exact = np.arange(1, mixture.total + 1)[:, None] * (np.array(wanted) / mixture.total)
    assert np.abs(drawn - exact).max() < (1.7 if len(wanted) > 3 else 1 + 1e-9)
    assert drawn[-1].tolist() == wanted
    for source, quota in enumerate(wanted):
        assert index[sources == source].tolist() == list(range(quota))
    k = data.draw(st.integers(0, mixture.total - 1))
    assert [int(found[0]) for found in mixture.draw(np.array([k]))] == [sources[k], index[k]]
    assert mixture.drawn(k) == np.bincount(sources[:k], minlength=len(wanted)).tolist()


@given(st.lists(st.integers(1, LARGEST // 60), min_size=2, max_size=60), st.data())
def test_the_largest_runs(wanted, data):
    mixture = Mixture(wanted)
    k = data.draw(st.integers(0, mixture.total - 1))
    drawn, after = mixture.drawn(k), mixture.drawn(k + 1)
    source, index = (int(found[0]) for found in mixture.draw(np.array([k])))
    assert [b - a for a, b in zip(drawn, after, strict=True)] == [int(i == source) for i in range(len(wanted))]
    assert index == drawn[source]
    exact = [quota * k / mixture.total for quota in wanted]
    assert all(abs(count - share) < 1.7 for count, share in zip(drawn, exact, strict=True))
    assert mixture.drawn(mixture.total) == wanted


def test_bad_quotas_and_draws_are_refused():
    for bad in ([-1, 2], [0, 0], [LARGEST, 1]):
        with pytest.raises(ValueError, match="quotas must"):
            Mixture(bad)
    for k in (-1, 4):
        with pytest.raises(IndexError, match="4 sequences"):
            Mixture([1, 3]).draw(np.array([k]))
