"""Intervals cover the truth as often as they say, and agree with closed forms."""

import numpy as np
import pytest
from scipy import stats

from lmworks.records import Scored, Unscored
from lmworks.statistics import (
    bootstrap_interval,
    difference_score,
    mean_score,
    quantile_score,
    ratio_score,
    wilson_interval,
)


def test_bootstrap_interval_matches_the_normal_one_on_a_large_sample():
    values = np.random.default_rng(1).normal(5, 2, size=4000)
    low, high = bootstrap_interval(values[:, None], lambda sample: sample[..., 0].mean(axis=1), of_items=True)
    half = 1.96 * values.std() / np.sqrt(len(values))
    # the quantile of 2000 replicates has a standard error of about 3 % of the half width
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_wilson_interval_is_the_closed_form():
    successes, n, z = 7, 20, stats.norm.ppf(0.975)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(successes, n) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_no_items_is_unscored_with_its_reason():
    assert mean_score([], "m", nothing="no answerable question") == Unscored("no answerable question")
    assert ratio_score([0, 0], [0, 0], "m", nothing="nothing was cited") == Unscored("nothing was cited")


def test_ratio_is_the_micro_average_and_leaves_empty_items_out_of_n():
    score = ratio_score([1, 0, 2], [2, 0, 2], "m")
    assert isinstance(score, Scored)
    assert score.value == pytest.approx(3 / 4)
    assert score.n == 2
    assert score.interval[0] <= 0.75 <= score.interval[1]


def test_one_item_alone_has_no_interval():
    alone = Unscored("0.750 of one item alone, which has no spread: an interval needs two")
    assert ratio_score([3, 0], [4, 0], "m") == alone
    assert ratio_score([3], [4], "m", proportion=True) == alone
    assert mean_score([0.75], "m") == alone
    assert difference_score([1.0], [0.25], "m") == alone


def test_only_a_proportion_has_the_interval_of_one():
    """A loss of 1 nat has no bound at 1, and one of 0 says nothing of a share of targets."""
    loss = ratio_score([1.0, 3.0, 2.0], [2, 2, 2], "m")
    assert isinstance(loss, Scored)
    assert loss.value == 1 and loss.interval[0] < 1 < loss.interval[1]
    nothing = ratio_score([0.0] * 10, [5] * 10, "m")
    assert isinstance(nothing, Scored)
    assert nothing.interval == (0, 0)
    for share in (0, 1):
        score = ratio_score([5 * share] * 10, [5] * 10, "m", proportion=True)
        assert isinstance(score, Scored)
        assert score == Scored(share, wilson_interval(10 * share, 10), 10, score.signature)
        assert mean_score([float(share)] * 10, "m") == score


def test_paired_difference_is_tighter_than_the_unpaired_spread():
    generator = np.random.default_rng(3)
    difficulty = generator.normal(0, 5, size=200)
    first, second = difficulty + 0.5 + generator.normal(0, 0.1, 200), difficulty + generator.normal(0, 0.1, 200)
    score = difference_score(list(first), list(second), "m")
    assert isinstance(score, Scored)
    assert score.interval[0] > 0.45
    assert score.interval[1] < 0.55
    with pytest.raises(ValueError, match="shorter"):
        difference_score([1.0], [], "m")


def test_the_signature_depends_on_how_it_was_measured():
    first, second = mean_score([0.0, 1.0], {"seed": 1}), mean_score([0.0, 1.0], {"seed": 2})
    assert isinstance(first, Scored) and isinstance(second, Scored)
    assert first.signature != second.signature


def test_order_statistics_hold_a_quantile_of_any_distribution_and_are_refused_to_few_values():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        score = quantile_score(generator.exponential(size=100).tolist(), 0.95, "")
        assert isinstance(score, Scored)
        held += score.interval[0] <= -np.log(0.05) <= score.interval[1]
    assert held / 400 > 0.935  # exactly 0.957 for 100 values; three standard errors of 400 samples are 0.03
    assert isinstance(quantile_score([1.0] * 71, 0.95, ""), Unscored)
    assert isinstance(quantile_score([1.0] * 73, 0.95, ""), Scored)
