"""From measured runs to the best size for a budget: approaches 1 and 2 of Hoffmann et al. 2022. Free of torch.

Neither assumes a form of the loss, and so neither predicts one. Done beside approach 3 (`parametric_fit.py`), they are
the test of it: where the three exponents differ by more than their intervals, one of the fits is wrong (Besiroglu et
al. 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lmworks.train.planning.measured_runs import RESAMPLES, Array, Interval, Rows, check_runs, interval, resample
from lmworks.train.planning.scaling_laws import FLOPS_PER_PARAMETER_AND_TOKEN, PowerLaw


@dataclass(frozen=True)
class FittedPowerLaw:
    """The law through the `optima`, pairs of C in FLOPs and N, with an interval of each of its numbers; `n` runs."""

    law: PowerLaw
    intervals: dict[str, Interval]
    optima: tuple[tuple[float, float], ...]
    n: int


def fit_envelope(
    parameters: ArrayLike,
    tokens: ArrayLike,
    losses: ArrayLike,
    *,
    bins: int = 12,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FittedPowerLaw:
    """Approach 1 (Hoffmann et al. 2022, section 3.1): of the runs of a similar budget, that of lowest loss is the best.

    The runs (runs,) are put into `bins` of equal width in ln C, whose lowest losses are the envelope; a line through
    (ln C, ln N) of these gives the law. The paper interpolates training curves: a point of one belongs here only where
    a schedule ended. N is as exact as the sizes are close. ValueError when fewer than two bins are filled.
    """
    n, d, loss = check_runs(parameters, tokens, losses)
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * n * d
    edges = np.linspace(np.log(flops).min(), np.log(flops).max(), bins + 1)[1:-1]
    place = np.digitize(np.log(flops), edges)

    def optima(rows: Rows) -> Array:
        filled = (rows[place[rows] == number] for number in np.unique(place[rows]))
        best = [members[np.argmin(loss[members])] for members in filled]
        return np.column_stack([flops[best], n[best]])

    return _through(optima, len(n), resamples, seed)


def fit_isoflop(
    parameters: ArrayLike,
    tokens: ArrayLike,
    losses: ArrayLike,
    *,
    tolerance: float = 0.1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FittedPowerLaw:
    """Approach 2 (Hoffmann et al. 2022, section 3.2): at each budget a parabola through (ln N, loss), whose lowest
    point is N_opt; a line through (ln C, ln N_opt) gives the law.

    Runs (runs,) belong to one budget when neighbours differ in C by a share of less than `tolerance`. A budget counts
    when it has three sizes and its lowest point lies among them: beyond, it would be a guess. ValueError when fewer
    than two budgets count.
    """
    n, d, loss = check_runs(parameters, tokens, losses)
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * n * d
    budget = _groups(np.log(flops), np.log1p(tolerance))

    def optima(rows: Rows) -> Array:
        found = []
        for number in np.unique(budget[rows]):
            members = rows[budget[rows] == number]
            lowest = _lowest(np.log(n[members]), loss[members])
            if lowest is not None:
                found.append((np.exp(np.log(flops[members]).mean()), np.exp(lowest)))
        return np.array(found).reshape(-1, 2)

    return _through(optima, len(n), resamples, seed)


def _lowest(x: Array, y: Array) -> float | None:
    """Where the parabola through the points is lowest; None where that is not among them."""
    if len(np.unique(x)) < 3:
        return None
    square, slope, _ = np.polyfit(x - x.mean(), y, 2)
    if square <= 0:
        return None
    lowest = x.mean() - slope / (2 * square)
    return float(lowest) if x.min() <= lowest <= x.max() else None


def _groups(values: Array, width: float) -> Rows:
    """A number for each value, (values,) int64; sorted neighbours closer than `width` share one."""
    order = np.argsort(values)
    groups = np.empty(len(values), np.int64)
    groups[order] = np.concatenate([[0], np.diff(values[order]) > width]).cumsum()
    return groups


def _through(optima: Callable[[Rows], Array], runs: int, resamples: int, seed: int) -> FittedPowerLaw:
    points = optima(np.arange(runs))
    law = _line(points)
    resampled = resample(lambda rows: _line(optima(rows)), runs, resamples, seed)
    names = ("coefficient", "exponent")
    intervals = {name: interval([getattr(each, name) for each in resampled]) for name in names}
    return FittedPowerLaw(law, intervals, tuple((float(c), float(size)) for c, size in points), runs)


def _line(points: Array) -> PowerLaw:
    if len(points) < 2 or np.ptp(np.log(points[:, 0])) == 0:
        raise ValueError(
            f"a line takes the best size at two budgets at least, found {len(points)}: train more sizes at each "
            "budget, on both sides of the best"
        )
    exponent, intercept = np.polyfit(np.log(points[:, 0]), np.log(points[:, 1]), 1)
    return PowerLaw(float(np.exp(intercept)), float(exponent))
