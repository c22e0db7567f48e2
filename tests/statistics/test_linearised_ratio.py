"""Intervals of ratios of counts, against the bootstrap and against what they promise."""

import numpy as np
import pytest

from lmworks.records import Scored, Unscored
from lmworks.statistics import ratio_score
from lmworks.statistics.scores import linearised_ratio_score


def drawn(generator, n):
    bottom = generator.integers(5, 60, n)
    return generator.poisson(bottom * generator.gamma(9, 1.3 / 9, n)), bottom


def test_the_interval_is_near_the_bootstrap_s():
    top, bottom = drawn(np.random.default_rng(0), 400)
    ours, theirs = linearised_ratio_score(top, bottom, {}), ratio_score(top.tolist(), bottom.tolist(), {})
    assert isinstance(ours, Scored) and isinstance(theirs, Scored)
    assert (ours.value, ours.n) == (theirs.value, theirs.n)
    width = theirs.interval[1] - theirs.interval[0]
    # 2,000 replicates place a 2.5 % quantile with a standard error of about 0.06 of the half width.
    assert ours.interval == pytest.approx(theirs.interval, abs=0.1 * width)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator, covered, trials = np.random.default_rng(1), 0, 1000
    for _ in range(trials):
        score = linearised_ratio_score(*drawn(generator, 30), {})
        assert isinstance(score, Scored)
        covered += score.interval[0] <= 1.3 <= score.interval[1]
    # 950 expected; the standard error of the count is 7, and 30 passages cost the linearisation a percent or two.
    assert 925 <= covered <= 972


def test_certainty_is_not_claimed_and_nothing_is_not_scored():
    nothing = linearised_ratio_score(np.zeros(20, int), np.full(20, 9), {})
    assert isinstance(nothing, Scored) and nothing.value == 0 and nothing.n == 20
    # 180 tokens of 20 passages count as 180 (1.973 / 2.093)^2 = 160, of which none has probability 0.025 at the bound.
    assert nothing.interval[0] == 0 and (1 - nothing.interval[1]) ** 160.0 == pytest.approx(0.025, rel=0.01)
    everything = linearised_ratio_score(np.full(20, 9), np.full(20, 9), {})
    assert isinstance(everything, Scored)
    assert everything.interval == pytest.approx((1 - nothing.interval[1], 1.0))
    assert isinstance(linearised_ratio_score(np.array([3, 0]), np.array([4, 0]), {}), Unscored)
    assert isinstance(linearised_ratio_score(np.array([0, 0]), np.array([0, 0]), {}), Unscored)


def test_none_among_many_tokens_is_rare_and_few_passages_say_less():
    bounds = [
        linearised_ratio_score(np.zeros(n, int), np.full(n, 1_000_000 // n), {}).interval[1] for n in (2, 20, 1000)
    ]
    assert bounds[0] > 20 * bounds[1] > 20 * bounds[2]
    assert bounds[2] == pytest.approx(3.69e-6, rel=0.01)  # the rule of three, for 97.5 % instead of 95 %


def test_a_ratio_that_happens_to_be_one_is_no_share():
    """As many tokens as in the original, with passages above and below."""
    top, bottom = np.array([4, 6, 12, 8]), np.array([6, 4, 10, 10])
    score, near = (
        linearised_ratio_score(top, bottom, {}),
        linearised_ratio_score(top + np.array([1, 0, 0, 0]), bottom, {}),
    )
    assert isinstance(score, Scored) and isinstance(near, Scored)
    assert score.value == 1 and score.interval[1] == pytest.approx(near.interval[1], abs=0.1) and score.interval[1] > 1
