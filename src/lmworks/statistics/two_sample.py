"""Tests whether recent rows come from where those of the reference came from, within strata such as the hour of week.

Each takes pooled rows, `recent` (n,) bool, and `strata` (n,) whole numbers. A label may be exchanged with those of its
stratum alone, so that neither a daily cycle nor other traffic at an hour is taken for a difference. Next to p stands an
effect, in which the reference is weighted to have the strata of the recent rows: at a large n everything has a small p.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 2000  # at most
_ENOUGH = 20  # permutations as extreme as the rows, after which no more are drawn
_RARE = 5.0  # expected rows of a category on either side, below which it is pooled with the other rare ones


@dataclass(frozen=True, slots=True)
class TestResult:
    """`p` is uniform when nothing differs; `effect` is in the unit that the test states."""

    __test__ = False  # no test of pytest's

    p: float
    effect: float


def comparable(recent: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The rows, (n,) bool, of strata that have rows on both sides: others say nothing about a difference."""
    both = np.intersect1d(strata[recent], strata[~recent])
    return np.isin(strata, both)


def stratum_weights(recent: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Weights (n,) that sum to 1 on each side and give the reference the strata of the recent rows."""
    return np.where(recent, 1 / recent.sum(), _reference_weights(recent, strata))


def _reference_weights(recent: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The weight (n,) that each row has as one of the reference; exchanging labels within strata leaves it as it is."""
    codes = np.unique(strata, return_inverse=True)[1]
    recent_counts, reference_counts = (
        np.bincount(codes[side], minlength=codes.max() + 1) for side in (recent, ~recent)
    )
    return (recent_counts / np.maximum(reference_counts, 1))[codes] / recent.sum()


def rate_test(hits: np.ndarray, recent: np.ndarray, strata: np.ndarray) -> TestResult:
    """Two-sided mid-p that a share is as before: exact, given how many hits each stratum has (Cox 1966; Hirji 2006).

    Effect: the recent share less that of the reference.
    """
    from scipy.stats import hypergeom

    hits = np.asarray(hits, dtype=bool)
    counts, start = np.ones(1), 0  # distribution of the recent hits over all strata, from `start` on
    for code in np.unique(strata[hits]):
        inside = strata == code
        n, hits_inside, drawn = int(inside.sum()), int(hits[inside].sum()), int(recent[inside].sum())
        low, high = max(0, hits_inside + drawn - n), min(hits_inside, drawn)
        counts = np.convolve(counts, hypergeom.pmf(np.arange(low, high + 1), n, hits_inside, drawn))
        start += low
    observed = int((hits & recent).sum()) - start
    half = counts[observed] / 2
    p = min(1.0, 2 * min(counts[:observed].sum() + half, counts[observed + 1 :].sum() + half))
    weights = stratum_weights(recent, strata)
    effect = float((weights * hits)[recent].sum() - (weights * hits)[~recent].sum())
    return TestResult(float(max(p, np.finfo(float).tiny)), effect)


def category_test(values: np.ndarray, recent: np.ndarray, strata: np.ndarray) -> TestResult:
    """p that categories have the shares of before: the generalised Cochran-Mantel-Haenszel test (Landis, Heyman & Koch
    1978), which for one stratum is the two-sample chi-square times (n - 1) / n. Rare categories are pooled.

    Effect: the share of the recent rows that would have to change their category.
    """
    from scipy.stats import chi2

    codes = np.unique(values, return_inverse=True)[1]
    rare = np.bincount(codes) * min(recent.mean(), 1 - recent.mean()) < _RARE
    codes = np.where(rare, (~rare).sum(), np.cumsum(~rare) - 1)[codes]  # the last is of all rare ones
    size = int(codes.max()) + 1
    gap, covariance = np.zeros(size), np.zeros((size, size))
    for code in np.unique(strata):
        inside = strata == code
        n, drawn = int(inside.sum()), int(recent[inside].sum())
        if not 0 < drawn < n:
            continue
        total = np.bincount(codes[inside], minlength=size).astype(float)
        gap += np.bincount(codes[inside & recent], minlength=size) - total * drawn / n
        covariance += drawn * (n - drawn) / (n * n * (n - 1)) * (n * np.diag(total) - np.outer(total, total))
    keep = covariance.diagonal() > 0
    freedom = int(keep.sum()) - 1
    if freedom < 1:
        return TestResult(1.0, 0.0)
    statistic = gap[keep] @ np.linalg.pinv(covariance[np.ix_(keep, keep)], hermitian=True) @ gap[keep]
    weights = stratum_weights(recent, strata) * np.where(recent, 1, -1)
    effect = float(np.abs(np.bincount(codes, weights, minlength=size)).sum() / 2)
    return TestResult(float(chi2.sf(statistic, freedom)), effect)


def number_test(
    values: np.ndarray, recent: np.ndarray, strata: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> TestResult:
    """p of the Kolmogorov-Smirnov distance by permutation within strata, of ranks within strata.

    Effect: Wasserstein's distance in interquartile ranges of the reference, negative where the recent mean is lower.
    """
    from scipy.stats import rankdata, wasserstein_distance

    ranks = np.empty(len(values))  # in (0, 1), within the stratum, equal ones the same
    for code in np.unique(strata):
        inside = strata == code
        ranks[inside] = rankdata(values[inside]) / (inside.sum() + 1)
    order = np.argsort(ranks, kind="stable")
    ends = np.append(np.diff(ranks[order]) > 0, True)  # ties are passed together
    recent_count, reference_count = recent.sum(), (~recent).sum()

    def distance(labels: np.ndarray) -> np.ndarray:
        steps = labels[order] * np.float32(1 / recent_count + 1 / reference_count) - np.float32(1 / reference_count)
        return np.abs(np.cumsum(steps, axis=0)[ends]).max(axis=0)

    p, _ = _permutation_p(distance, recent, strata, seed, permutations)
    weights = stratum_weights(recent, strata)
    moved = wasserstein_distance(values[recent], values[~recent], weights[recent], weights[~recent])
    spread = np.subtract(*np.quantile(values[~recent], (0.75, 0.25))) or values[~recent].std() or 1.0
    lower = np.average(values[recent]) < np.average(values[~recent], weights=weights[~recent])
    return TestResult(p, float(moved / spread) * (-1 if lower else 1))


def mmd_test(
    points: np.ndarray, recent: np.ndarray, strata: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> TestResult:
    """p of the unbiased squared maximum mean discrepancy (Gretton et al. 2012) of points (n, d), by permutation.

    The kernel is Gaussian, its width the mean squared distance of the pooled points. MMD² is a quadratic form in the
    labels, so that all permutations are one product of the kernel's matrix. Rows of the reference have the weights of
    their strata: else more traffic at one hour could hide a shift, or be one. Effect: MMD, the root of the statistic
    less its mean over permutations, 0 where that is negative.
    """
    points = np.asarray(points, dtype=np.float32)
    squares = (points**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    kernel = np.exp(-distances / (distances.mean() or 1.0))
    as_reference = _reference_weights(recent, strata).astype(np.float32)[:, None]
    as_recent = np.float32(1 / recent.sum()) + as_reference

    def discrepancy(labels: np.ndarray) -> np.ndarray:
        contrast = labels * as_recent - as_reference  # (n, permutations): sums to 0 in each stratum
        return (contrast * (kernel @ contrast)).sum(axis=0, dtype=np.float64)

    p, square = _permutation_p(discrepancy, recent, strata, seed, permutations)
    return TestResult(p, max(square, 0.0) ** 0.5)


def classifier_test(
    points: np.ndarray, recent: np.ndarray, strata: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> tuple[TestResult, np.ndarray]:
    """Classifier two-sample test (Lopez-Paz & Oquab 2017), and for each point (n,) how far it looks like a recent one.

    Logistic regression in two halves, each scored by what the other was fitted on. p is by permutation within strata,
    of the second half alone: scores of both depend on all labels, and would alarm twice as often as stated. Effect: the
    area under its curve less 0.5.
    """
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    half = np.random.default_rng(seed).random(len(points)) < 0.5
    scores, weights = np.empty(len(points)), stratum_weights(recent, strata) * recent.sum()
    for fitted in (half, ~half):
        model = LogisticRegression(max_iter=200).fit(points[fitted], recent[fitted], weights[fitted])
        scores[~fitted] = model.decision_function(points[~fitted])
    ranks, now, strata = rankdata(scores[~half]), recent[~half], strata[~half]
    as_reference = _reference_weights(now, strata)

    def area(labels: np.ndarray) -> np.ndarray:
        """Area under the ROC curve less 0.5: the difference of mean ranks over the number of rows."""
        return (ranks * (1 / now.sum() + as_reference) @ labels - ranks @ as_reference) / len(ranks)

    p, _ = _permutation_p(area, now, strata, seed, permutations)
    return TestResult(p, float(area(now.astype(float)))), scores


def _permutation_p(
    statistic: Callable[[np.ndarray], np.ndarray], recent: np.ndarray, strata: np.ndarray, seed: int, most: int
) -> tuple[float, float]:
    """p that a statistic of labels, (n, permutations) float32 -> (permutations,), is as large by chance, and by how
    much it exceeds the mean of those permutations.

    Sequential (Besag & Clifford 1991): once `_ENOUGH` permutations were as extreme, their number over how many it took;
    so what is clearly no difference costs little.
    """
    generator = np.random.default_rng(seed)
    labels, hits, count, total, excess = recent.astype(np.float32), 0, 0, 0.0, 0.0
    groups = [(strata == code).nonzero()[0] for code in np.unique(strata[recent])]
    mixed = [(group, int(recent[group].sum())) for group in groups if not recent[group].all()]
    observed = statistic(labels[:, None])[0]
    while count < most:
        batch = min(max(50, count), 500, most - count)
        shuffled = np.repeat(labels[:, None], batch, axis=1)
        for group, drawn in mixed:  # those with the smallest of random keys are drawn
            keys = generator.random((batch, len(group)))
            shuffled[group] = (keys <= np.partition(keys, drawn - 1)[:, drawn - 1, None]).T
        values = statistic(shuffled)
        reached, total = np.flatnonzero(values >= observed - 1e-6 * abs(observed)), total + float(values.sum())
        excess = float(observed - total / (count + batch))
        if hits + len(reached) >= _ENOUGH:
            return _ENOUGH / (count + int(reached[_ENOUGH - hits - 1]) + 1), excess
        hits, count = hits + len(reached), count + batch
    return (hits + 1) / (most + 1), excess
