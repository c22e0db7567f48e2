"""Scaling laws fitted to measured runs: the three approaches of Hoffmann et al. 2022, with bootstrap intervals.

A run is a number of parameters, a number of tokens and the loss it ended with, in nats per token. Runs must have ended
their schedule: a loss read in the middle of a decay is too high (section 3.1). Approaches 1 and 2 find the best size
for a budget and assume no form of the loss, and so predict none; approach 3 fits the loss surface L(N, D). Where their
exponents differ by more than their intervals, one of the fits is wrong (Besiroglu et al. 2024). Free of torch.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmworks.artefact import write_json
from lmworks.config import to_mapping
from lmworks.statistics import LEVEL
from lmworks.train.planning.scaling_laws import FLOPS_PER_PARAMETER_AND_TOKEN, Law, ParametricLaw, PowerLaw

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


def _intervals(laws: Sequence[Law], *numbers: str) -> dict[str, Interval]:
    return {name: interval([getattr(law, name) for law in laws]) for name in numbers}


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


# ---------------------------------------------------------------------------------------------------------------------
# Approaches 1 and 2


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
    bin_of = np.digitize(np.log(flops), edges)

    def optima(rows: Rows) -> Array:
        filled = (rows[bin_of[rows] == number] for number in np.unique(bin_of[rows]))
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
    order = np.argsort(flops)
    budget = np.empty(len(flops), np.int64)  # a number for each run; sorted neighbours that are close share one
    budget[order] = np.concatenate([[0], np.diff(np.log(flops[order])) > np.log1p(tolerance)]).cumsum()

    def optima(rows: Rows) -> Array:
        best = []
        for number in np.unique(budget[rows]):
            members = rows[budget[rows] == number]
            lowest = _lowest(np.log(n[members]), loss[members])
            if lowest is not None:
                best.append((np.exp(np.log(flops[members]).mean()), np.exp(lowest)))
        return np.array(best).reshape(-1, 2)

    return _through(optima, len(n), resamples, seed)


def _lowest(x: Array, y: Array) -> float | None:
    """The minimum of the parabola through the points; None where that is not among them."""
    if len(np.unique(x)) < 3:
        return None
    square, slope, _ = np.polyfit(x - x.mean(), y, 2)
    if square <= 0:
        return None
    lowest = x.mean() - slope / (2 * square)
    return float(lowest) if x.min() <= lowest <= x.max() else None


def _through(optima: Callable[[Rows], Array], runs: int, resamples: int, seed: int) -> FittedPowerLaw:
    points = optima(np.arange(runs))
    law = _line(points)
    resampled = resample(lambda rows: _line(optima(rows)), runs, resamples, seed)
    intervals = _intervals(resampled, "coefficient", "exponent")
    return FittedPowerLaw(law, intervals, tuple((float(c), float(size)) for c, size in points), runs)


def _line(points: Array) -> PowerLaw:
    if len(points) < 2 or np.ptp(np.log(points[:, 0])) == 0:
        raise ValueError(
            f"a line takes the best size at two budgets at least, found {len(points)}: train more sizes at each "
            "budget, on both sides of the best"
        )
    exponent, intercept = np.polyfit(np.log(points[:, 0]), np.log(points[:, 1]), 1)
    return PowerLaw(float(np.exp(intercept)), float(exponent))


# ---------------------------------------------------------------------------------------------------------------------
# Approach 3

Data = tuple[Array, Array, Array]  # ln N and ln D, centred, and ln L

HUBER = 1e-3  # of log loss: where the Huber loss turns from squares to magnitudes (Hoffmann et al. 2022, section 3.3)
# The paper's grid of starts (section 3.3) for alpha, beta, e, a, b.
STARTS = {
    "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
    "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
    "e": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "a": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "b": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
}
_UNEXPLAINED = "the losses do not fall with {}: check that every run ended its schedule"
_KEPT_STARTS = 12  # those with the lowest loss before any step; the paper runs all 4,500


@dataclass(frozen=True)
class FittedLaw:
    """The law, an interval for each of its numbers and for `exponent`, and the laws of the resamples.

    `huber` is the sum that was minimised, `n` the number of runs.
    """

    law: ParametricLaw
    intervals: dict[str, Interval]
    resampled: tuple[ParametricLaw, ...]
    huber: float
    n: int

    def predict(self, parameters: float, tokens: float) -> tuple[float, Interval]:
        """The loss of a run that was not among those fitted, in nats per token. The interval is that of the law; a run
        scatters about it besides."""
        losses = [law.loss(parameters, tokens) for law in self.resampled]
        return self.law.loss(parameters, tokens), interval(losses)


@dataclass(frozen=True)
class HeldOut:
    """The largest run, its loss as `measured` and as `predicted` by a fit to the others, with the law's interval."""

    fitted: FittedLaw
    parameters: float
    tokens: float
    measured: float
    predicted: float
    interval: Interval

    @property
    def error(self) -> tuple[float, Interval]:
        """Measured minus predicted loss, in nats per token, and its interval, which is that of the law."""
        low, high = self.measured - self.interval.high, self.measured - self.interval.low
        return self.measured - self.predicted, Interval(low, high)


def fit_law(
    parameters: ArrayLike, tokens: ArrayLike, losses: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> FittedLaw:
    """The law of least Huber loss between the logarithms (Hoffmann et al. 2022, section 3.3):

        min over a, b, e, alpha, beta of Σ Huber(LSE(a − alpha ln N, b − beta ln D, e) − ln L),  A, B, E = exp(a, b, e)

    by L-BFGS from the best points of the paper's grid. `parameters`, `tokens`, `losses` (runs,). The Huber losses are
    summed, not averaged, and the tolerances are tight: with the mean the optimizer stops early, which spoilt the
    published fit (Besiroglu et al. 2024, section 4). Intervals resample the runs, as the paper's.

    ValueError for fewer than six runs, numbers that are not above 0, losses that do not fall with N and D, and runs
    that vary one of N, D and D / N only, from which the two terms cannot be distinguished.
    """
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    n, d, loss = check_runs(parameters, tokens, losses)
    if len(n) < 6:
        raise ValueError(f"five numbers are fitted: it takes six runs at least, better dozens; got {len(n)}")
    for name, values in (("parameters", n), ("tokens", d), ("tokens per parameter", d / n)):
        factor = float(np.exp(np.ptp(np.log(values))))
        if factor < 1.5:
            raise ValueError(
                f"the runs vary the {name} by a factor of {factor:.2f} only: from these the terms of parameters and "
                "tokens cannot be distinguished; train several sizes on several numbers of tokens each"
            )
    # Centred, so that coefficients and exponents are less correlated; undone in `_law`.
    centre = np.array([np.log(n).mean(), np.log(d).mean()])
    data = np.log(n) - centre[0], np.log(d) - centre[1], np.log(loss)

    def fit_sample(rows: Rows) -> ParametricLaw:
        return _law(_minimise(best, (data[0][rows], data[1][rows], data[2][rows]))[0], centre)

    grid = itertools.product(*STARTS.values())
    starts = np.array([(a - alpha * centre[0], b - beta * centre[1], e, alpha, beta) for alpha, beta, e, a, b in grid])
    with threadpool_limits(limits=1):  # for five unknowns threads cost a hundred times what they save
        values = np.array([_objective(start, data)[0] for start in starts])
        promising = starts[np.argsort(values)[:_KEPT_STARTS]]
        best, huber = min((_minimise(start, data) for start in promising), key=lambda result: result[1])
        law = _law(best, centre)
        for name, term in (("parameters", law.A / n**law.alpha), ("tokens", law.B / d**law.beta)):
            if (term / loss).max() < HUBER / 10:  # of no run: the optimizer pushed it away
                raise ValueError(_UNEXPLAINED.format(name))
        resampled = resample(fit_sample, len(n), resamples, seed)
    intervals = _intervals(resampled, "E", "A", "B", "alpha", "beta", "exponent")
    return FittedLaw(law, intervals, resampled, huber, len(n))


def hold_out_largest(
    parameters: ArrayLike, tokens: ArrayLike, losses: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> HeldOut:
    """Prediction of the run with the largest budget from all the smaller ones."""
    n, d, loss = check_runs(parameters, tokens, losses)
    largest = int(np.argmax(n * d))
    others = np.delete(np.arange(len(n)), largest)
    fitted = fit_law(n[others], d[others], loss[others], resamples=resamples, seed=seed)
    size, length = float(n[largest]), float(d[largest])
    return HeldOut(fitted, size, length, float(loss[largest]), *fitted.predict(size, length))


def _objective(theta: Array, data: Data) -> tuple[float, Array]:
    """The sum of Huber losses at (a, b, e, alpha, beta), divided by HUBER, and its gradient."""
    a, b, e, alpha, beta = theta
    log_n, log_d, log_loss = data
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    highest = terms.max(axis=0)
    exponentials = np.exp(terms - highest)
    total = exponentials.sum(axis=0)
    residual = highest + np.log(total) - log_loss
    clipped = np.clip(residual, -HUBER, HUBER)
    shares = exponentials / total * clipped
    gradient = np.array([*shares.sum(axis=1), -(shares[0] * log_n).sum(), -(shares[1] * log_d).sum()])
    return float((clipped * (residual - clipped / 2)).sum() / HUBER), gradient / HUBER


def _minimise(start: Array, data: Data) -> tuple[Array, float]:
    from scipy.optimize import minimize

    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9}
    result = minimize(_objective, start, args=(data,), jac=True, method="L-BFGS-B", options=options)
    return result.x, float(result.fun * HUBER)


def _law(theta: Array, centre: Array) -> ParametricLaw:
    a, b, e, alpha, beta = (float(value) for value in theta)
    if min(alpha, beta) <= 0:
        fixed = "parameters" if alpha <= 0 else "tokens"
        raise ValueError(_UNEXPLAINED.format(fixed))
    with np.errstate(over="ignore"):
        size, data = np.exp([a + alpha * centre[0], b + beta * centre[1]])
    if not (np.isfinite(size) and np.isfinite(data)):
        raise ValueError("the fit ran away: the runs do not determine the law; vary parameters and tokens more")
    return ParametricLaw(float(np.exp(e)), float(size), float(data), alpha, beta)


def write_law(path: Path, fitted: FittedLaw, source: str, doubts: Sequence[str], vocabulary: int) -> None:
    """Writes a law for `scaling_laws.read_law`, with the law's intervals and the number of runs."""
    numbers = {"law": fitted.law, "intervals": fitted.intervals, "n": fitted.n, "source": source}
    write_json(path, to_mapping(numbers | {"doubts": tuple(doubts), "vocabulary": vocabulary}))
