"""Tests of two systems on the same items: permutation, McNemar, non-inferiority; Holm's correction for many of them.

The rows of a system are what each item adds to sums, (n, columns), of which the metric is a function: (value, 1) and
their ratio for a mean. Items of one cluster are swapped and resampled together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np

from lmworks.records import Score, Scored
from lmworks.statistics.intervals import LEVEL, Clusters, Statistic, bootstrap_interval, cluster_sums, wilson_interval
from lmworks.statistics.scores import interval_score

POWER = 0.8  # of a test with as many items as `non_inferiority` says are needed


def permutation_test(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Statistic,
    clusters: Clusters = None,
    *,
    seed: int = 0,
    replicates: int = 10_000,
) -> float:
    """Two-sided p that systems whose rows may as well be swapped differ as much in a statistic of sums: sign flips for
    a mean, approximate randomisation for corpus BLEU (Noreen 1989; Riezler & Maxwell 2005).

    Exact where no more than `replicates` swaps are possible; else (1 + hits) / (1 + replicates), which is valid.
    """
    first, second = cluster_sums(first, clusters), cluster_sums(second, clusters)
    change = (second - first)[(first != second).any(axis=1)]  # swapping equal rows changes nothing
    totals, n = (first.sum(axis=0), second.sum(axis=0)), len(change)
    observed, generator = abs(statistic(totals[0]) - statistic(totals[1])), np.random.default_rng(seed)
    exact = 2**n <= replicates
    count, batch, hits = 2**n if exact else replicates, max(1, 4_000_000 // max(n, 1)), 0
    for start in range(0, count, batch):
        size = min(batch, count - start)
        numbers = np.arange(start, start + size)[:, None]
        swaps = numbers >> np.arange(n) & 1 if exact else generator.integers(0, 2, (size, n), dtype=np.int8)
        moved = swaps.astype(np.float64) @ change  # (size, columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            gaps = np.abs(statistic(totals[0] + moved) - statistic(totals[1] - moved))
        hits += int((~(gaps < observed - 1e-9 * (observed + abs(statistic(totals[0]))))).sum())  # undefined is a hit
    return hits / count if exact else (hits + 1) / (count + 1)


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided mid-p of McNemar's test of values 0 or 1, which has more power than the exact p and keeps the level in
    practice (Fagerland, Lydersen & Laake 2013); `permutation_test` gives the exact one."""
    from scipy.stats import binom

    signs = np.sign(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))
    fewer, n = int(min((signs > 0).sum(), (signs < 0).sum())), int(np.abs(signs).sum())
    return float(min(1.0, 2 * binom.cdf(fewer, n, 0.5) - (binom.pmf(fewer, n, 0.5) if n else 0.0)))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p of several tests, in their order, which hold the chance of any false alarm (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(1.0, adjusted[np.argsort(order)]).tolist()


def paired_interval(
    first: np.ndarray, second: np.ndarray, statistic: Statistic, clusters: Clusters = None, level: float = LEVEL
) -> tuple[float, float]:
    """Bootstrap interval of the statistic of the first system less that of the second.

    Of values 0 or 1, few of which may differ, one more item is counted for either system, as in Bonett & Price 2012.
    Where no item differs, Wilson's share of items might, as far as the values lie apart.
    """
    width, values = first.shape[1], np.concatenate([first, second])
    rows = cluster_sums(np.hstack([first, second]), clusters)
    if is_binary(values):
        rows = np.vstack([rows, [(1, 1, 0, 1), (0, 1, 1, 1)]])
    elif (first == second).all():
        half = wilson_interval(0, len(rows))[1] * float(np.ptp(statistic(values)))
        return -half, half
    return bootstrap_interval(rows, lambda s: statistic(s[..., :width]) - statistic(s[..., width:]), level=level)


def paired_score(
    first: np.ndarray, second: np.ndarray, statistic: Statistic, signature: object, clusters: Clusters = None
) -> Score:
    """The statistic of the first system less that of the second, over the same items."""
    value = float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0)))
    interval = partial(paired_interval, first, second, statistic, clusters)
    return interval_score(value, len(first), len(cluster_sums(first, clusters)), signature, interval)


def is_binary(rows: np.ndarray) -> bool:
    """Whether the rows are sums for a mean of values 0 or 1."""
    return rows.shape[1] == 2 and bool(np.isin(rows[:, 0], (0, 1)).all() and (rows[:, 1] == 1).all())


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """`holds`: True where the difference lies above -margin with confidence 1 - alpha, False where it lies below with
    that confidence, None where the items cannot tell. `needed` items would tell that equal systems are (power 0.8)."""

    difference: Score
    bound: float  # one-sided lower end of the difference
    holds: bool | None
    needed: int | None


def non_inferiority(
    new: np.ndarray,
    old: np.ndarray,
    statistic: Statistic,
    margin: float,
    clusters: Clusters = None,
    *,
    alpha: float = 0.05,
    signature: object = None,
) -> NonInferiority:
    """Whether a system is not worse by `margin` or more, where higher is better (Piaggio et al. 2012)."""
    from scipy.special import ndtri

    difference = paired_score(new, old, statistic, signature, clusters)
    if not isinstance(difference, Scored):
        return NonInferiority(difference, float("-inf"), None, None)
    low, high = paired_interval(new, old, statistic, clusters, 1 - 2 * alpha)
    spread = (high - low) / 2 * (1 + ndtri(POWER) / ndtri(1 - alpha))  # what the margin must exceed, with as many items
    needed = ceil(len(new) * (spread / margin) ** 2) if margin > 0 else None
    return NonInferiority(difference, low, True if low > -margin else False if high < -margin else None, needed)
