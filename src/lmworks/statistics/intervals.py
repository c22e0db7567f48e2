"""Intervals: percentile bootstrap of items or clusters of items, Wilson's of a proportion.

The unit of resampling is always the item (a question, a document) or the cluster that it belongs to (a document with
several questions), never its tokens or citations, because those of one item are not independent. Intervals are 95 %
percentile bootstrap intervals (Efron & Tibshirani 1993, ch. 13).
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

REPLICATES = 2000
LEVEL = 0.95


def bootstrap_interval(
    rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of items.

    `rows` is (n, columns); `statistic` maps resamples (replicates, n, columns) to (replicates,) values. Replicates on
    which it is undefined (NaN, such as a ratio with denominator 0) are left out.
    """
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(rows), size=(replicates, len(rows)))
    values = statistic(rows[picks])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_sums(
    rows: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of sums over items, such as a mean, a ratio or corpus BLEU.

    `rows` is (n, columns); `statistic` maps sums (replicates, columns) to (replicates,) values. Items of one cluster
    are drawn together. Replicates on which the statistic is undefined (NaN) are left out.
    """
    if clusters is not None:
        index = np.unique([hash(cluster) for cluster in clusters], return_inverse=True)[1]
        rows = np.stack([np.bincount(index, weights=column) for column in rows.T], axis=1)  # (clusters, columns)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=replicates)  # (replicates, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = statistic(draws @ rows)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
