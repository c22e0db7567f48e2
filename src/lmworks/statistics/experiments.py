"""Statistics of online experiments: units that are needed, sample ratio mismatch, ratios by unit, CUPED."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from lmworks.statistics.confidence_sequences import asymptotic_width

MISMATCH = 0.001  # p of the sample ratio below which no result is read (Fabijan et al. 2019)


def units_needed(
    spread: float, effect: float, alpha: float = 0.05, power: float = 0.8, *, watched: bool = False
) -> int:
    """Units of each of two arms with which a difference of means is found; `spread` is the sum of the two variances of
    a unit's value, p (1 - p) each for shares.

    By a two-sided z-test at the end; or `watched` at any time: the confidence sequence tuned for that number is clear
    of 0 at the last look with that power, earlier where one is lucky.
    """
    return ceil(_standard_errors(alpha, power, watched) ** 2 * spread / effect**2)


def detectable(spread: float, units: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest difference that so many units of each arm find, by a z-test at the end."""
    return _standard_errors(alpha, power, False) * (spread / units) ** 0.5


def _standard_errors(alpha: float, power: float, watched: bool) -> float:
    """How many standard errors an effect must be, to be found with that power."""
    from scipy.special import ndtri

    width = asymptotic_width(1.0, 1.0, alpha) if watched else ndtri(1 - alpha / 2)  # at the planned number
    return float(width + ndtri(power))


def units_for_width(spread: float, half: float, planned: float, alpha: float) -> int:
    """Units of each arm at which the confidence sequence of a difference is no wider than `half` to each side, to a
    thousandth; at most 10^12."""
    units = np.geomspace(2, 1e12, 27_000)
    wide = np.sqrt(spread / units) * asymptotic_width(2 * units, planned, alpha) > half
    return ceil(units[min(wide.sum(), len(units) - 1)])


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """p of the chi-squared test that units came to the arms in their shares; 1 where there are too few to say."""
    from scipy.stats import chisquare

    expected = np.asarray(shares) / sum(shares) * sum(counts)
    return float(chisquare(counts, expected).pvalue) if sum(counts) and expected.min() >= 5 else 1.0


def linearised(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Values of units whose mean is the ratio of sums and whose variance is that of the ratio, to the first order (the
    delta method; Deng, Knoblich & Lu 2018); the values themselves where each unit has one."""
    total = denominators.sum()
    if not total or (denominators == 1).all():
        return np.asarray(numerators, dtype=np.float64)
    share = numerators.sum() / total
    return share + (numerators - share * denominators) / denominators.mean()


def cuped(values: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Values of the arms' units less what their values from before the experiment foretell, and the share of the
    variance that this takes away (Deng et al. 2013, "Controlled-experiment Using Pre-Experiment Data").

    `before` has NaN for a unit without a past: it is as one whose past is the mean.
    """
    past = np.concatenate([*before]) if before else np.zeros(0)
    known = np.isfinite(past)
    if known.sum() < 30 or np.ptp(past[known]) == 0:
        return [*values], 0.0
    centred = [np.where(np.isfinite(arm), arm - past[known].mean(), 0.0) for arm in before]
    # Within arms, so that an effect of the experiment is not taken for one of the past.
    inside = [(value - value.mean(), past - past.mean()) for value, past in zip(values, centred, strict=True)]
    covariance = sum(float(value @ past) for value, past in inside)
    theta = covariance / sum(float(past @ past) for _, past in inside)
    variance = sum(float(value @ value) for value, _ in inside)
    adjusted = [value - theta * past for value, past in zip(values, centred, strict=True)]
    return adjusted, theta * covariance / variance if variance else 0.0
