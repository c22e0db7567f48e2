"""Quotas by their definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.balance.quotas import quotas


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
