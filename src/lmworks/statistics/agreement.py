"""Agreement of raters: Cohen's kappa and Krippendorff's alpha, with intervals over the rated items.

Both are 1 - observed / expected disagreement, functions of sums over items, so that the bootstrap resamples the items
(or clusters of them) with all their ratings.

    cohen_kappa(["a", "b", "b"], ["a", "b", "a"], "rubric 1")
    krippendorff_alpha([[1, 2, None], [3, 3, 4]], "rubric 1", level="interval")     # a row for each item
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lmworks.records import Score
from lmworks.statistics.intervals import Clusters, Statistic
from lmworks.statistics.scores import sums_score

_MOST_VALUES = 100  # of a scale, whose pairs are counted


def cohen_kappa(
    first: Sequence[Any],
    second: Sequence[Any],
    signature: object,
    clusters: Clusters = None,
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    categories: Sequence[Any] | None = None,
) -> Score:
    """Cohen's kappa of two raters of the same items (Cohen 1960; weighted: Cohen 1968).

    Weights count a disagreement by how many places, or their square, the two lie apart in `categories` (default: the
    values that occur, sorted). Kappa is unscored where both raters give all items one category.
    """
    scale = list(dict.fromkeys(categories)) if categories is not None else sorted({*first, *second})
    size, positions = len(scale), np.arange(len(scale))
    first_hot, second_hot = (
        _one_hot([[value] for value in first], scale),
        _one_hot([[value] for value in second], scale),
    )
    apart = np.abs(positions[:, None] - positions).astype(np.float64)
    apart = {None: np.sign(apart), "linear": apart, "quadratic": apart**2}[weights]

    def kappa(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(*sums.shape[:-1], size, size)
        expected = table.sum(-1)[..., :, None] * table.sum(-2)[..., None, :] / table.sum((-2, -1))[..., None, None]
        return 1 - (table * apart).sum((-2, -1)) / (expected * apart).sum((-2, -1))

    rows = (first_hot[:, :, None] * second_hot[:, None, :]).reshape(len(first_hot), size * size)
    return _chance_corrected(rows, kappa, ["kappa", weights, signature], clusters)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Any]],
    signature: object,
    clusters: Clusters = None,
    *,
    level: Literal["nominal", "ordinal", "interval"] = "nominal",
) -> Score:
    """Krippendorff's alpha of any number of raters (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    `ratings` has a row for each item, with None where a rater gave none; items with fewer than two are left out, and
    `n` counts the others. The values of an ordinal scale are sorted. Alpha is unscored where all ratings are equal.
    """
    units = [[value for value in row if value is not None] for row in ratings]
    clusters = clusters and [cluster for cluster, unit in zip(clusters, units, strict=True) if len(unit) > 1]
    units = [unit for unit in units if len(unit) > 1]
    scale = sorted({value for unit in units for value in unit})
    size = len(scale)
    if size > _MOST_VALUES:
        raise ValueError(f"{size} different values are no scale: round them, {_MOST_VALUES} at most are counted")

    def alpha(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(*sums.shape[:-1], size, size)
        counts = table.sum(-1)
        position = counts.cumsum(-1) - counts / 2 if level == "ordinal" else np.array(scale)
        apart = 1 - np.eye(size) if level == "nominal" else (position[..., :, None] - position[..., None, :]) ** 2
        expected = (counts[..., :, None] * counts[..., None, :] * apart).sum((-2, -1)) / (counts.sum(-1) - 1)
        return 1 - (table * apart).sum((-2, -1)) / expected

    counts = _one_hot(units, scale)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)  # by different raters
    rows = pairs.reshape(len(units), size * size) / (counts.sum(axis=1, keepdims=True) - 1)
    return _chance_corrected(rows, alpha, ["alpha", level, signature], clusters)


def _one_hot(units: Sequence[Sequence[Any]], scale: Sequence[Any]) -> np.ndarray:
    """How often each value of the scale occurs in each unit, (units, values)."""
    column = {value: number for number, value in enumerate(scale)}
    counts = np.zeros((len(units), len(scale)))
    for number, unit in enumerate(units):
        for value in unit:
            if value not in column:
                raise ValueError(f"item {number + 1} is rated {value!r}, which is not among the categories {scale}")
            counts[number, column[value]] += 1
    return counts


def _chance_corrected(rows: np.ndarray, statistic: Statistic, signature: object, clusters: Clusters) -> Score:
    nothing, undefined = "no items that two raters have rated", "all ratings are equal: agreement by chance is complete"
    return sums_score(rows, statistic, signature, clusters, coefficient=True, nothing=nothing, undefined=undefined)
