"""Scores with 95 % intervals: no number leaves the house without one."""

from collections.abc import Sequence

import numpy as np

from lmworks.artefact import hash_json
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics.intervals import bootstrap_interval, wilson_interval


def mean_score(values: Sequence[float], signature: object, *, nothing: str = "no items") -> Score:
    """The mean over items; `Unscored(nothing)` when there are none, and `Unscored` where one alone has no spread.

    When every value is 0, or every value is 1, the bootstrap would claim certainty; the Wilson interval does not.
    """
    if not values:
        return Unscored(nothing)
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if mean in (0.0, 1.0) and bool(np.all(array == mean)):
        interval = wilson_interval(int(array.sum()), len(array))
    elif len(array) < 2:
        return without_spread(mean)
    else:
        interval = bootstrap_interval(array[:, None], lambda sample: sample[..., 0].mean(axis=1))
    return Scored(mean, interval, len(array), sign(signature))


def ratio_score(
    numerators: Sequence[float], denominators: Sequence[float], signature: object, *, nothing: str = "no items"
) -> Score:
    """Sum of numerators over sum of denominators, resampled by item: losses per token, and other micro averages.

    `n` is the sum of denominators' items: those with a denominator above 0. `Unscored(nothing)` when there are none,
    and `Unscored` where one alone has no spread.
    """
    rows = np.column_stack([numerators, denominators]).astype(np.float64) if len(numerators) else np.zeros((0, 2))
    n = int((rows[:, 1] > 0).sum())
    if n == 0:
        return Unscored(nothing)
    value = float(rows[:, 0].sum() / rows[:, 1].sum())
    if n == 1:
        return without_spread(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        interval = bootstrap_interval(rows, lambda sample: sample[..., 0].sum(axis=1) / sample[..., 1].sum(axis=1))
    return Scored(value, interval, n, sign(signature))


def proportion_score(
    numerators: Sequence[float], denominators: Sequence[float], signature: object, *, nothing: str = "no items"
) -> Score:
    """`ratio_score` of numerators that are parts of their denominators: precision, recall.

    Where the ratio is 0 or 1 the bootstrap would claim certainty; the Wilson interval does not.
    """
    value = sum(numerators) / (sum(denominators) or 1)
    n = sum(denominator > 0 for denominator in denominators)
    if n and value in (0.0, 1.0):
        return Scored(value, wilson_interval(int(value) * n, n), n, sign(signature))
    return ratio_score(numerators, denominators, signature, nothing=nothing)


def difference_score(first: Sequence[float], second: Sequence[float], signature: object) -> Score:
    """Mean of `first - second` over the same items in the same order (paired bootstrap)."""
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same items, got {len(first)} and {len(second)}")
    if not first:
        return Unscored("no items")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(differences) < 2:
        return without_spread(float(differences[0]))
    interval = bootstrap_interval(differences[:, None], lambda sample: sample[..., 0].mean(axis=1))
    return Scored(float(differences.mean()), interval, len(differences), sign(signature))


def without_spread(value: float) -> Unscored:
    """The score of a single item: its resamples are all alike, and would claim certainty."""
    return Unscored(f"{value:.3f} of one item alone, which has no spread: an interval needs two")


def sign(signature: object) -> str:
    """The short hash that says under which conditions a value was measured (metric, model, data, seed, ...)."""
    return hash_json(signature)[:12]
