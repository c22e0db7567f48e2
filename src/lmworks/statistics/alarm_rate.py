"""Alarms of repeated tests with a stated rate of false ones: so many runs a month that alarm while nothing changes.

Half of the rate is for what one run shows: its p are adjusted (Benjamini & Hochberg 1995) and compared with that part
of the rate that falls on a run, which for tests of true hypotheses is the chance that any is below it. The other half
is for what adds up over runs: a cumulative sum of each signal (Page 1954), which forgets a little at each run. The sum
of expected numbers holds however the signals depend on each other.
"""

from functools import lru_cache

import numpy as np

SLACK = 0.5  # standard deviations that a cumulative sum forgets at each run: it is best at shifts of twice as many
_MOST = 4.0  # standard deviations that one run may add; more is what the test of a single run is for


def run_level(false_alarms: float, runs: float) -> float:
    """The level of the adjusted p of one of `runs` a month, for half of the false alarms a month."""
    return min(0.5, false_alarms / 2 / runs)


def cumulative_sum(before: np.ndarray | float, p: np.ndarray | float) -> np.ndarray:
    """The sums of signals after a run with these p, which were `before`."""
    from scipy.special import ndtri

    return np.maximum(0.0, before + np.minimum(_MOST, -ndtri(np.maximum(p, 1e-300))) - SLACK)


@lru_cache
def sum_threshold(false_alarms: float, runs: float, signals: int) -> float:
    """The sum at which a signal alarms, for half of the false alarms a month of all signals together.

    An alarm sets the sum to 0, so that one is expected every (average run length) runs.
    """
    from scipy.optimize import brentq

    length = 2 * runs * signals / false_alarms
    return float(brentq(lambda height: np.log(average_run_length(height)) - np.log(length), 0.05, 30.0, xtol=1e-4))  # type: ignore[arg-type]


def average_run_length(height: float, states: int = 120) -> float:
    """Expected runs until a sum of uniform p exceeds `height`: from a Markov chain over parts of [0, height] (Brook &
    Evans 1972), whose ends lie half a part around each state."""
    from scipy.special import ndtr

    step = 2 * height / (2 * states - 1)
    at = np.arange(states) * step
    moves = (at + side - at[:, None] + SLACK for side in (step / 2, -step / 2))
    upper, lower = (np.where(move >= _MOST, 1.0, ndtr(move)) for move in moves)
    lower[:, 0] = 0.0
    return float(np.linalg.solve(np.eye(states) - (upper - lower), np.ones(states))[0])
