"""Rates corrected for a detector's errors: the closed form, and coverage by simulation."""

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.records import Scored, Unscored
from lmworks.statistics.scores import rogan_gladen


def test_the_estimate_is_rogans_and_gladens_and_stays_a_share():
    found = rogan_gladen(40, 100, (90, 100), (80, 100), [])
    assert isinstance(found, Scored) and found.value == pytest.approx((0.4 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.interval[0] < found.value < found.interval[1] and found.n == 100
    none = rogan_gladen(0, 50, (90, 100), (80, 100), [])
    assert isinstance(none, Scored) and none.value == 0 == none.interval[0] and none.interval[1] > 0
    for args in ((3, 10, (5, 10), (5, 10)), (0, 0, (9, 10), (9, 10)), (1, 10, (0, 0), (9, 10))):
        assert isinstance(rogan_gladen(*args, []), Unscored)


@for_each(("rate", "sensitivity", "specificity", "cases"), [
    (0.02, 0.9, 0.95, 60), (0.3, 0.75, 0.85, 100), (0.6, 0.9, 0.95, 40), (0.95, 0.75, 0.85, 100),
])  # fmt: skip
def test_the_interval_holds_the_true_rate_as_often_as_it_says(rate, sensitivity, specificity, cases):
    """1,500 audits of 150 attacks: at least 93 %, whatever the detector's calibration happened to be."""
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(1500):
        hits = int(draw.binomial(150, rate * sensitivity + (1 - rate) * (1 - specificity)))
        right, rejected = int(draw.binomial(cases, sensitivity)), int(draw.binomial(cases, specificity))
        found = rogan_gladen(hits, 150, (right, cases), (rejected, cases), [])
        held += isinstance(found, Scored) and found.interval[0] <= rate <= found.interval[1]
    assert held / 1500 >= 0.93
