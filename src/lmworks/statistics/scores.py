"""Scores with 95 % intervals: every reported number has one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from lmworks.artefact import hash_json
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import intervals
from lmworks.statistics.experiments import linearised
from lmworks.statistics.intervals import Clusters, Statistic

_Z = 1.959964  # of 95 %


def mean_score(
    values: Sequence[float], signature: object, clusters: Clusters = None, *, nothing: str = "no items"
) -> Score:
    """The mean over items; `Unscored(nothing)` when there are none, and `Unscored` where one alone has no spread.

    Where every value is 0 or 1 it is a proportion, with Wilson's interval.
    """
    ones, proportion = [1.0] * len(values), set(values) <= {0, 1}
    return ratio_score(values, ones, signature, clusters, proportion=proportion, nothing=nothing)


def ratio_score(
    numerators: Sequence[float],
    denominators: Sequence[float],
    signature: object,
    clusters: Clusters = None,
    *,
    proportion: bool = False,
    nothing: str = "no items",
) -> Score:
    """Sum of numerators over sum of denominators, resampled by item: losses per token, and other micro averages.

    A `proportion` has numerators that are parts of their denominators: precision, recall. `n` counts the items with a
    denominator above 0. Otherwise as `mean_score`.
    """
    rows = np.array([*zip(numerators, denominators, strict=True)], dtype=np.float64).reshape(-1, 2)
    return sums_score(rows, ratio, signature, clusters, proportion=proportion, nothing=nothing)


def linearised_ratio_score(numerators: np.ndarray, denominators: np.ndarray, signature: object) -> Score:
    """As `ratio_score`, a thousand times as fast: for counts, (n,) each, of many ratios over the same items.

    The interval is that of the linearised ratio with Student's t (Cochran 1977, section 2.11), which agrees with the
    bootstrap's. Where nothing was counted, or everything, items have no spread, and it is `none_of_many`'s.
    """
    from scipy.special import stdtrit

    top, bottom = numerators[denominators > 0], denominators[denominators > 0]
    n = len(bottom)
    if n < 2:
        return Unscored("nothing to count" if n == 0 else "one passage has no spread: an interval needs two")
    value = float(top.sum() / bottom.sum())
    if not top.any() or np.array_equal(top, bottom):
        bound = intervals.none_of_many(int(bottom.sum()), n)
        return Scored(value, (value, bound) if value == 0 else (1 - bound, value), n, sign(signature))
    error = linearised(top, bottom).std(ddof=1) / np.sqrt(n)
    half = float(stdtrit(n - 1, (1 + intervals.LEVEL) / 2) * error)
    return Scored(value, (max(value - half, 0.0), value + half), n, sign(signature))


def difference_score(first: Sequence[float], second: Sequence[float], signature: object) -> Score:
    """Mean of `first - second` over the same items in the same order (paired bootstrap)."""
    differences = [first_value - second_value for first_value, second_value in zip(first, second, strict=True)]
    return ratio_score(differences, [1.0] * len(differences), signature)


def quantile_score(values: Sequence[float], share: float, signature: object) -> Score:
    """A quantile with its interval between order statistics, which holds whatever the distribution (David & Nagaraja
    2003, section 7.1); `Unscored` where there are too few values for both of its ends."""
    from scipy.stats import binom

    n = len(values)
    if not n:
        return Unscored("no items")
    ordered, value = np.sort(np.asarray(values, dtype=np.float64)), float(np.quantile(values, share))
    low, high = (int(binom.ppf(tail, n, share)) for tail in ((1 - intervals.LEVEL) / 2, (1 + intervals.LEVEL) / 2))
    if not low or high == n:
        needed = int(np.ceil(np.log((1 - intervals.LEVEL) / 2) / np.log(max(share, 1 - share))))
        return Unscored(f"{value:.3f} over {n}, of which an interval needs {needed}")
    return Scored(value, (float(ordered[low - 1]), float(ordered[high])), n, sign(signature))


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first sum over the second, (..., 2) -> (...): a mean, or a ratio; NaN where the second is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def sums_score(
    rows: Any,
    statistic: Statistic,
    signature: object,
    clusters: Clusters = None,
    *,
    proportion: bool = False,
    coefficient: bool = False,
    nothing: str = "no items",
    undefined: str = "nothing to divide by",
) -> Score:
    """A statistic of sums over items, rows (n, columns), which are resampled by item or cluster.

    A `proportion` is the first of two columns over the second, and no larger. A `coefficient` (kappa, alpha) is 1 where
    items agree. Unscored where there are no rows (of a ratio: no denominators), where the statistic is not finite, and
    where one item or cluster alone has no spread.
    """
    n = int((rows[:, 1] > 0).sum()) if statistic is ratio else rows.shape[0]
    if not n:
        return Unscored(nothing)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.asarray(rows.sum(axis=0), dtype=np.float64)))
    if not np.isfinite(value):
        return Unscored(undefined)
    rows = intervals.cluster_sums(rows, clusters)
    units = int((rows[:, 1] > 0).sum()) if statistic is ratio else rows.shape[0]
    if proportion and (units > 1 or value in (0.0, 1.0)):
        return Scored(value, intervals.proportion_interval(rows), n, sign(signature))
    interval = partial(intervals.bootstrap_interval, rows, statistic)
    return interval_score(value, n, units, signature, interval, coefficient)


def interval_score(
    value: float,
    n: int,
    units: int,
    signature: object,
    interval: Callable[[], tuple[float, float]],
    coefficient: bool = False,
) -> Score:
    """The score with a bootstrap interval over n items in so many independent units; `Unscored` where one is alone,
    whose resamples are all alike and would claim certainty.

    Where a coefficient is 1 or -1 every resample agrees, and the bootstrap would claim certainty. The interval then
    reaches to Wilson's for n of n units: a coefficient is about the share of items that do not agree by chance.
    """
    if coefficient and abs(value) > 1 - 1e-12:
        ends = sorted((round(value), round(value) * intervals.wilson_interval(units, units)[0]))
        return Scored(float(round(value)), (float(ends[0]), float(ends[1])), n, sign(signature))
    if units < 2:
        return Unscored(f"{value:.3f} of one item alone, which has no spread: an interval needs two")
    return Scored(value, interval(), n, sign(signature))


def rogan_gladen(hits: float, n: int, right: tuple[int, int], rejected: tuple[int, int], signature: object) -> Score:
    """The true rate behind `hits` of n: (rate + Sp - 1) / (Se + Sp - 1) (Rogan & Gladen 1978), in [0, 1].

    `right` are (detected, positives) and `rejected` (not detected, negatives) of the detector's calibration. The
    interval counts the uncertainty of all three (Lang & Reiczigel 2014, section 2). Unscored for no items, and for a
    detector that is no better than chance.
    """
    if not n or not right[1] or not rejected[1]:
        return Unscored("no items" if not n else "the detector was not calibrated on both kinds")
    sensitivity, specificity = right[0] / right[1], rejected[0] / rejected[1]
    if sensitivity + specificity <= 1:
        return Unscored(f"sensitivity {sensitivity:.2f} and specificity {specificity:.2f}: no better than chance")
    value = (hits / n + specificity - 1) / (sensitivity + specificity - 1)
    rate, size = (hits + _Z**2 / 2) / (n + _Z**2), n + _Z**2
    se, sp = (right[0] + 1) / (right[1] + 2), (rejected[0] + 1) / (rejected[1] + 2)
    youden = se + sp - 1
    shrunk = min(1.0, max(0.0, (rate + sp - 1) / youden))
    of_se, of_sp = se * (1 - se) / (right[1] + 2), sp * (1 - sp) / (rejected[1] + 2)
    shift = 2 * _Z**2 * (shrunk * of_se - (1 - shrunk) * of_sp)
    half = _Z * (rate * (1 - rate) / size + shrunk**2 * of_se + (1 - shrunk) ** 2 * of_sp) ** 0.5 / youden
    low, high = (min(1.0, max(0.0, shrunk + shift + side * half)) for side in (-1, 1))
    value = min(1.0, max(0.0, value))
    return Scored(value, (min(low, value), max(high, value)), n, sign([signature, right, rejected]))


def sign(signature: object) -> str:
    """The short hash that says under which conditions a value was measured (metric, model, data, seed, ...)."""
    return hash_json(signature)[:12]
