"""Two-sample tests against the tests of scipy, their level within strata, and the rate of alarms by simulation."""

import numpy as np
import pytest
from scipy import stats

from lmworks.statistics.alarm_rate import average_run_length, cumulative_sum, run_level, sum_threshold
from lmworks.statistics.two_sample import (
    category_test,
    classifier_test,
    comparable,
    mmd_test,
    number_test,
    rate_test,
    stratum_weights,
)


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def within(rate: float, nominal: float, trials: int) -> bool:
    return abs(rate - nominal) <= 3.5 * np.sqrt(nominal * (1 - nominal) / trials)


def test_one_stratum_is_the_test_that_scipy_has(generator):
    recent, one = generator.random(400) < 0.4, np.zeros(400, dtype=int)
    hits = generator.random(400) < np.where(recent, 0.3, 0.2)
    table = np.array([[np.sum(hits & side), np.sum(~hits & side)] for side in (recent, ~recent)])
    found = rate_test(hits, recent, one)
    law = stats.hypergeom(400, hits.sum(), recent.sum())
    tail = min(law.cdf(table[0, 0]), law.sf(table[0, 0] - 1)) - law.pmf(table[0, 0]) / 2
    assert found.p == pytest.approx(2 * tail)
    assert found.effect == pytest.approx(hits[recent].mean() - hits[~recent].mean())
    codes = generator.integers(0, 5, 400)
    counts = np.array([np.bincount(codes[side]) for side in (recent, ~recent)])
    squared = stats.chi2_contingency(counts, correction=False)[0] * 399 / 400
    assert category_test(codes, recent, one).p == pytest.approx(stats.chi2.sf(squared, 4))
    values = generator.normal(size=400) + 0.25 * recent
    assert number_test(values, recent, one, permutations=20_000).p == pytest.approx(
        stats.ks_2samp(values[recent], values[~recent]).pvalue, rel=0.5
    )


def test_a_season_is_no_drift_and_a_shift_within_it_is(generator):
    """At each hour recent rows have another share of the traffic, and hours differ; only the last rows are shifted."""
    trials, quick = 80, 24
    found = {name: [] for name in ("rate", "category", "number", "mmd", "classifier")}
    shifted = {name: [] for name in found}
    for trial in range(trials):
        hour = generator.integers(0, 12, 160)
        recent = generator.random(160) < np.where(hour < 6, 0.25, 0.65)
        keep = comparable(recent, hour)
        hour, recent = hour[keep], recent[keep]
        season = np.sin(hour / 12 * 2 * np.pi)
        n = len(hour)
        for results, shift in ((found, 0.0), (shifted, 1.0)):
            moved = shift * recent
            chance = 0.3 + 0.2 * season + 0.4 * moved
            results["rate"].append(rate_test(generator.random(n) < chance, recent, hour).p)
            codes = np.where(generator.random(n) < chance, 0, generator.integers(1, 4, n))
            results["category"].append(category_test(codes, recent, hour).p)
            noise = generator.normal(size=(n, 4)) + 2 * season[:, None] + moved[:, None]
            results["number"].append(number_test(noise[:, 0], recent, hour, seed=trial, permutations=199).p)
            if trial < quick:
                results["mmd"].append(mmd_test(noise, recent, hour, seed=trial, permutations=199).p)
                test, scores = classifier_test(noise, recent, hour, seed=trial, permutations=199)
                results["classifier"].append(test.p)
                assert scores.shape == (n,)
    for name, values in found.items():
        level = np.mean(np.array(values) <= 0.1)
        assert within(level, 0.1, len(values)), (name, level)
        assert np.mean(np.array(shifted[name]) <= 0.01) > 0.5, name


def test_the_reference_is_weighted_to_the_recent_hours():
    recent, hour = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool), np.array([0, 0, 1, 0, 1, 1, 1])
    weights = stratum_weights(recent, hour)
    assert weights[recent].sum() == pytest.approx(1) and weights[~recent].sum() == pytest.approx(1)
    assert weights[3] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_alarms_of_a_month_are_as_many_as_stated(generator):
    """Six independent signals, a run each day; 11 years of days without any change."""
    stated, runs, signals, days = 2.0, 30.0, 6, 4000
    p = generator.random((days, signals))
    level, limit = run_level(stated, runs), sum_threshold(stated, runs, signals)
    single = np.array([stats.false_discovery_control(row).min() <= level for row in p]).sum()
    sums, added = np.zeros(signals), 0
    for row in p:
        sums = cumulative_sum(sums, row)
        added, sums = added + (sums > limit).sum(), np.where(sums > limit, 0.0, sums)
    for alarms in (single, added):
        assert abs(alarms * 30 / days - stated / 2) < 3.5 * np.sqrt(stated / 2 * 30 / days)
    # Siegmund's approximation, which counts no forgetting of what one run may add
    assert average_run_length(4.0) == pytest.approx((np.exp(5.166) - 5.166 - 1) * 2, rel=0.02)
