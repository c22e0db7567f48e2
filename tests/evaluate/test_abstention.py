"""Risk and coverage against counting by hand and against a closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.abstention import expected_calibration_error, risk_coverage

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


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_score():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(size=20000)
    right = generator.uniform(size=20000) < confidence
    assert expected_calibration_error(confidence.tolist(), right.tolist()) < 0.015  # sampling error of a bin: 0.011
    assert expected_calibration_error([0.95] * 100, [True] * 50 + [False] * 50) == pytest.approx(0.45)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="as many"):
        risk_coverage([0.5], [])
