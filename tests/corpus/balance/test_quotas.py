"""Quotas by their definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.balance.quotas import quotas, temperature_weights


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


@pytest.mark.parametrize(
    ("weights", "caps", "total", "found"),
    [
        ([1, 1, 2], [None, None, None], 8, [2, 2, 4]),
        ([1, 1, 2], [None, None, 2], 8, [3, 3, 2]),  # what the third lacks, the others share
        ([1, 9, 10], [None, 3, None], 25, [2, 3, 20]),
        ([1, 1, 1], [None, None, None], 4, [2, 1, 1]),  # the remainder goes to the first
        ([0.1, 0.2], [None, None], 30, [10, 20]),
        (temperature_weights([100, 400], 1), [None, None], 50, [10, 40]),
        (temperature_weights([100, 400], 2), [None, None], 30, [10, 20]),
        (temperature_weights([100, 400], 1e9), [None, None], 30, [15, 15]),
    ],
)
def test_quotas_worked_by_hand(weights, caps, total, found):
    assert quotas(weights, caps, total) == found
