"""Rank correlation of two columns, such as a metric and human ratings, with intervals over items."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from lmworks.records import Score, Unscored
from lmworks.statistics.intervals import Clusters, Statistic, bootstrap_interval, cluster_codes
from lmworks.statistics.scores import interval_score


def spearman(first: Sequence[float], second: Sequence[float], signature: object, clusters: Clusters = None) -> Score:
    """Spearman's rho: the correlation of ranks, ties at their mean rank."""
    return _correlation(rank_correlation, ["spearman", signature], first, second, clusters)


def kendall(first: Sequence[float], second: Sequence[float], signature: object, clusters: Clusters = None) -> Score:
    """Kendall's tau-b: concordant less discordant pairs, over those not tied (Kendall 1945)."""
    return _correlation(_kendall, ["kendall", signature], first, second, clusters)


def _correlation(
    statistic: Statistic, signature: object, first: Sequence[float], second: Sequence[float], clusters: Clusters
) -> Score:
    """Unscored where there is no item, or a column is constant."""
    rows = np.array([*zip(first, second, strict=True)], dtype=np.float64).reshape(-1, 2)
    if not (finite := np.isfinite(rows).all(axis=1)).all():
        raise ValueError(f"row {int(np.argmin(finite)) + 1} is no number: leave it out")
    for column, name in zip(rows.T, ("first", "second"), strict=True):
        if not len(column) or np.ptp(column) == 0:
            return Unscored(f"the {name} column is constant: it orders nothing" if len(column) else "no items")
    value, units = float(statistic(rows[None])[0]), int(cluster_codes(clusters, len(rows)).max()) + 1
    interval = partial(bootstrap_interval, rows, statistic, clusters, of_items=True)
    return interval_score(value, len(rows), units, signature, interval, coefficient=True)


def rank_correlation(samples: np.ndarray) -> np.ndarray:
    """Spearman's rho of samples, (replicates, n, 2) -> (replicates,); NaN where a column is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(samples, axis=-2)
    ranks -= ranks.mean(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore"):
        return ranks.prod(axis=-1).sum(axis=-1) / np.sqrt((ranks**2).sum(axis=-2).prod(axis=-1))


def _kendall(samples: np.ndarray) -> np.ndarray:
    from scipy.stats import kendalltau

    return np.array([kendalltau(*sample.T, method="asymptotic")[0] for sample in samples])
