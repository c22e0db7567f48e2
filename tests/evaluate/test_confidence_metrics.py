"""Calibration error and Brier score: the plain definition, scikit-learn, and the interval's coverage by simulation."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from lmworks.evaluate.confidence_metrics import bin_rows, ece_interval, ece_of_sums, expected_calibration_error
from lmworks.evaluate.metric import Item, Response, score
from lmworks.evaluate.registry import metric
from lmworks.records import Scored, Unscored
from slow_cases import slow

GENERATOR = np.random.default_rng(0)
CONFIDENCE = GENERATOR.beta(2, 1, 200)
RIGHT = GENERATOR.random(200) < CONFIDENCE - 0.1
ITEMS = [Item(str(i), references=("yes",)) for i in range(200)]
RESPONSES = [
    Response("yes" if right else "no", confidence=float(stated))
    for stated, right in zip(CONFIDENCE, RIGHT, strict=True)
]


def test_the_error_is_the_plain_one_over_bins_and_lies_in_its_interval():
    tenths = [np.floor(CONFIDENCE * 10) == tenth for tenth in range(10)]
    expected = sum(abs(CONFIDENCE[one].sum() - RIGHT[one].sum()) for one in tenths) / 200
    assert expected_calibration_error([*CONFIDENCE], [*RIGHT]) == pytest.approx(expected, abs=1e-12)
    found = score(metric("ece"), ITEMS, metric("ece").measure(ITEMS, RESPONSES))
    assert isinstance(found, Scored)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.interval[0] <= expected <= found.interval[1]


def test_bins_of_equal_mass_hold_as_many_items_each_and_equal_confidences_stay_together():
    assert bin_rows(CONFIDENCE, RIGHT, equal_mass=True).sum(axis=0).reshape(3, -1)[2].tolist() == [20] * 10
    order = np.argsort(CONFIDENCE).reshape(10, 20)
    gaps = [abs(CONFIDENCE[one].mean() - RIGHT[one].mean()) for one in order]
    found = score(metric("ece-equal-mass"), ITEMS, metric("ece-equal-mass").measure(ITEMS, RESPONSES))
    assert isinstance(found, Scored)
    assert found.value == pytest.approx(np.mean(gaps), abs=1e-12)
    assert np.count_nonzero(bin_rows([0.5] * 20, [1] * 20, equal_mass=True).sum(axis=0)) == 3


@pytest.mark.parametrize("off", [0.05, *slow(0.0, 0.2)])
def test_the_interval_holds_the_error_of_the_population(off):
    """60 samples of 150: with a coverage of 95 %, fewer than 52 happen once in 250 runs."""
    generator, held = np.random.default_rng(1), 0
    many = generator.beta(2, 1, 200_000)
    truth = float(ece_of_sums(bin_rows(many, np.clip(many - off, 0, 1)).sum(axis=0)))
    for _ in range(60):
        stated = generator.beta(2, 1, 150)
        low, high = ece_interval(bin_rows(stated, generator.random(150) < stated - off))
        held += low <= truth <= high
    assert held >= 52


def test_brier_is_that_of_scikit_learn():
    found = score(metric("brier"), ITEMS, metric("brier").measure(ITEMS, RESPONSES))
    assert isinstance(found, Scored)
    assert found.value == pytest.approx(brier_score_loss(RIGHT, CONFIDENCE), abs=1e-12)


def test_no_confidence_is_unscored_and_no_probability_refused():
    for name in ("ece", "brier"):
        values = metric(name).measure(ITEMS[:2], [Response("yes"), Response("yes", confidence=0.5)])
        assert isinstance(values[0], Unscored)
        assert not isinstance(values[1], Unscored)
    with pytest.raises(ValueError, match="from 0 to 1"):
        metric("ece").measure(ITEMS[:1], [Response("yes", confidence=1.5)])
