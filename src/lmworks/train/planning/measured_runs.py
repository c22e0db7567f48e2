"""Measured runs, checked, and intervals by resampling them: what the fits of scaling laws share. Free of torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmworks.statistics import LEVEL

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
T = TypeVar("T")

RESAMPLES = 200


@dataclass(frozen=True)
class Interval:
    """The percentiles of the bootstrap between which `lmworks.statistics.LEVEL` of the resampled values lie."""

    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def check_runs(parameters: ArrayLike, tokens: ArrayLike, losses: ArrayLike) -> tuple[Array, Array, Array]:
    """The three columns (runs,) in float64; ValueError for other shapes and for what is not finite and above 0."""
    columns = [np.asarray(column, dtype=np.float64) for column in (parameters, tokens, losses)]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ValueError(f"parameters, tokens and losses are one number for each run, got the shapes {shapes}")
    for name, column in zip(("parameters", "tokens", "losses"), columns, strict=True):
        if not (np.isfinite(column).all() and (column > 0).all()):
            raise ValueError(f"{name} must be finite numbers above 0: leave out runs that diverged")
    return columns[0], columns[1], columns[2]


def resample(fit: Callable[[Rows], T], runs: int, times: int, seed: int) -> tuple[T, ...]:
    """The fits to `times` samples of the runs, drawn with replacement (Efron & Tibshirani 1993, chapter 6). A sample
    from which no law follows, a ValueError, is left out; ValueError when more than half are."""
    generator = np.random.default_rng(seed)
    fits: list[T] = []
    for _ in range(times):
        try:
            fits.append(fit(generator.integers(runs, size=runs)))
        except ValueError:
            continue
    if 2 * len(fits) < times:
        raise ValueError(
            f"{times - len(fits)} of {times} resamples gave no law: too few runs for an interval; add some"
        )
    return tuple(fits)
