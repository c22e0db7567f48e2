"""Confidence sequences: the truth stays inside at every look, in simulated streams; widths against the formula."""

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.statistics.confidence_sequences import asymptotic_width, betting_sequence, difference_sequence
from lmworks.statistics.experiments import units_needed

UNITS = 1000  # of each arm
LOOKS = np.arange(1, UNITS + 1).repeat(2).reshape(-1, 2)


def missed(draw, effect: float, streams: int, *, bounded: bool, seed: int) -> float:
    """The share of streams in which some look, one after each pair of units, misses the effect."""
    generator, count = np.random.default_rng(seed), 0
    for _ in range(streams):
        first, second = draw(generator)
        found = difference_sequence(first, second, LOOKS, 2 * UNITS, 0.05, bounded=bounded)
        count += bool(((found[:, 1] > effect) | (found[:, 2] < effect)).any())
    return count / streams


def shares(one: float, two: float):
    return lambda generator: (generator.random(UNITS) < one, generator.random(UNITS) < two)


CASES = {
    "even shares": (shares(0.5, 0.5), 0.0, True),
    "rare clicks": (shares(0.02, 0.02), 0.0, True),
    "an effect": (shares(0.7, 0.75), 0.05, True),
    "skewed": (lambda generator: (generator.exponential(1, UNITS), generator.exponential(2, UNITS)), 1.0, False),
}


@for_each("name", CASES)
def test_the_truth_is_rarely_ever_missed(name):
    draw, effect, bounded = CASES[name]
    draws = lambda generator: tuple(arm.astype(float) for arm in draw(generator))  # noqa: E731
    assert missed(draws, effect, 100, bounded=bounded, seed=1) <= 0.12  # 0.05 and 3 standard errors


@pytest.mark.slow
@for_each("name", CASES)
def test_coverage_of_2000_streams(name):
    draw, effect, bounded = CASES[name]
    draws = lambda generator: tuple(arm.astype(float) for arm in draw(generator))  # noqa: E731
    assert missed(draws, effect, 2000, bounded=bounded, seed=2) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_betting_holds_for_tiny_samples_and_narrows():
    generator = np.random.default_rng(3)
    misses = 0
    for _ in range(200):
        found = betting_sequence(generator.random(60) < 0.05, 0.05)
        misses += bool(((found[:, 0] > 0.05) | (found[:, 1] < 0.05)).any())
    assert misses <= 20
    even = betting_sequence(np.tile([0.0, 1.0], 1000), 0.05)
    assert np.all(even[-1] > [0.44, 0.49])
    assert np.all(even[-1] < [0.51, 0.56])


def test_the_width_is_least_at_the_planned_number():
    """In standard errors of a fixed n; the mixture is tuned by the approximation of the paper's appendix."""
    planned = 1000
    width = {n: float(asymptotic_width(planned, n, 0.05)) for n in (100, 500, 1000, 2000, 10000)}
    assert min(width.values()) == min(width[500], width[1000], width[2000])
    assert width[1000] == pytest.approx(3.035, abs=0.001)
    assert units_needed(0.3975, 0.05, watched=True) > 1249
