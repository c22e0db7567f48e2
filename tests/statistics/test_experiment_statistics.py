"""Statistics of experiments against simulation: power, sample ratio, ratios by unit, CUPED."""

import numpy as np
import pytest
from scipy.stats import binom

from lmworks.statistics.confidence_sequences import difference_sequence
from lmworks.statistics.experiments import (
    MISMATCH,
    cuped,
    linearised,
    sample_ratio,
    units_for_width,
    units_needed,
)

SPREAD = 0.7 * 0.3 + 0.75 * 0.25


def test_the_calculator_gives_the_known_number():
    assert units_needed(SPREAD, 0.05) == 1248  # thumbs .70 -> .75


def power(units: int, trials: int, *, watched: bool) -> float:
    """The share of experiments that find .75 better than .70, looked at once or a hundred times."""
    generator, found = np.random.default_rng(1), 0
    looks = np.linspace(units / 100, units, 100).astype(int).repeat(2).reshape(-1, 2)
    for _ in range(trials):
        first, second = (generator.random(units) < p for p in (0.7, 0.75))
        if watched:
            sequence = difference_sequence(first * 1.0, second * 1.0, looks, 2 * units, 0.05)
            found += bool((sequence[:, 1] > 0).any())
        else:
            found += second.mean() - first.mean() > 1.96 * np.sqrt((first.var() + second.var()) / units)
    return found / trials


def test_power_is_as_said():
    assert power(units_needed(SPREAD, 0.05), 1000, watched=False) == pytest.approx(0.8, abs=0.04)
    assert (
        0.8 <= power(units_needed(SPREAD, 0.05, watched=True), 400, watched=True) <= 0.97
    )  # any look may find it: so a few more


def test_units_for_a_width_reach_it():
    units = units_for_width(SPREAD, 0.05, 5000, 0.05)
    first, second = (np.random.default_rng(2).permutation(np.arange(units) < p * units) * 1.0 for p in (0.7, 0.75))
    ((_, low, high),) = difference_sequence(first, second, np.array([[units, units]]), 5000, 0.05)
    assert (high - low) / 2 == pytest.approx(0.05, rel=0.02)


def test_the_sample_ratio_alarms_once_in_a_thousand():
    generator = np.random.default_rng(3)
    alarms = sum(
        sample_ratio(generator.multinomial(1000, [0.5, 0.3, 0.2]).tolist(), [0.5, 0.3, 0.2]) < MISMATCH
        for _ in range(3000)
    )
    assert binom.ppf(0.001, 3000, MISMATCH) <= alarms <= binom.ppf(0.999, 3000, MISMATCH)
    assert sample_ratio([560, 440], [0.5, 0.5]) < MISMATCH
    assert sample_ratio([3, 0], [0.5, 0.5]) == 1.0  # too few to say


def test_a_ratio_by_unit_has_the_spread_of_its_simulation():
    """Answers of one unit are alike, so that their number is no sample size."""
    generator, estimates, errors = np.random.default_rng(4), [], []
    for _ in range(400):
        answers = generator.integers(1, 20, 300)
        ups = generator.binomial(answers, generator.beta(2, 2, 300))
        values = linearised(ups, answers)
        assert values.mean() == pytest.approx(ups.sum() / answers.sum())
        estimates.append(values.mean())
        errors.append(values.std(ddof=1) / np.sqrt(300))
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.12)
    assert np.std(estimates) > 1.3 * np.sqrt(0.25 / (300 * 10))  # as if each answer were a unit


def test_the_past_takes_its_share_of_the_variance_and_no_effect():
    generator = np.random.default_rng(5)
    past = [generator.normal(0, 1, 4000) for _ in range(2)]
    values = [
        0.8 * one + 0.6 * generator.normal(0, 1, 4000) + effect for one, effect in zip(past, (0.0, 0.3), strict=True)
    ]
    adjusted, share = cuped(values, past)
    assert share == pytest.approx(0.64, abs=0.03)  # the squared correlation
    assert adjusted[0].var() == pytest.approx(0.36, rel=0.1)
    assert adjusted[1].mean() - adjusted[0].mean() == pytest.approx(0.3, abs=0.05)
    assert cuped(values, [np.full(4000, np.nan)] * 2)[1] == 0.0
