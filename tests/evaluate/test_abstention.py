"""Risk and coverage against counting by hand and against a closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.abstention import risk_controlled_threshold, risk_coverage

items = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=40)


@given(items)
def test_each_point_is_the_risk_of_answering_at_its_threshold(pairs):
    curve = risk_coverage([c for c, _ in pairs], [r for _, r in pairs])
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.threshold, strict=True):
        answered = [right for confidence, right in pairs if confidence >= threshold]
        assert coverage == pytest.approx(len(answered) / len(pairs))
        assert risk == pytest.approx(1 - sum(answered) / len(answered))
    assert curve.coverage[-1] == 1.0


def test_a_perfect_confidence_has_no_risk_until_the_right_ones_are_used_up():
    curve = risk_coverage([0.9, 0.8, 0.2, 0.1], [True, True, False, False])
    assert curve.risk == (0.0, 0.0, pytest.approx(1 / 3), 0.5)
    assert curve.area == pytest.approx((1 / 3 + 1 / 2) / 4)


@pytest.mark.slow
def test_the_threshold_keeps_its_risk_in_nearly_all_draws() -> None:
    rng = np.random.default_rng(0)
    alpha, delta, draws = 0.2, 0.1, 400
    broken = chosen = 0
    for _ in range(draws):
        confidence = np.sqrt(rng.random(250))  # of density 2 c; P(right) is c
        threshold = risk_controlled_threshold(
            confidence.tolist(), (rng.random(250) < confidence).tolist(), alpha, delta
        )
        if threshold is not None:
            chosen += 1
            broken += 1 - 2 / 3 * (1 - threshold**3) / (1 - threshold**2) > alpha  # the true risk above it
    assert chosen > 0.9 * draws, "it is found where it exists"
    # a binomial count of 400 draws at 10 % stays below 13.5 % but for one case in a hundred
    assert broken / draws < 0.135
    assert risk_controlled_threshold([0.9] * 50, [False] * 50, alpha, delta) is None
    assert risk_controlled_threshold([0.9] * 5, [True] * 5, alpha, delta) is None, "five answers prove nothing"
