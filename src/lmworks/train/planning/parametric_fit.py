"""From measured runs to the loss surface L(N, D): approach 3 of Hoffmann et al. 2022, with bootstrap intervals.

A run is a number of parameters, a number of tokens and the loss it ended with, in nats per token. Runs must have ended
their schedule: a loss read in the middle of a decay is too high (Hoffmann et al. 2022, section 3.1). Free of torch.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lmworks.train.planning.measured_runs import RESAMPLES, Array, Interval, Rows, check_runs, interval, resample
from lmworks.train.planning.scaling_laws import ParametricLaw

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


def fit_law(
    parameters: ArrayLike, tokens: ArrayLike, losses: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> FittedLaw:
    """The law of least Huber loss between the logarithms (Hoffmann et al. 2022, section 3.3):

        min over a, b, e, alpha, beta of Σ Huber(LSE(a − alpha ln N, b − beta ln D, e) − ln L),  A, B, E = exp(a, b, e)

    by L-BFGS from the best points of the paper's grid. `parameters`, `tokens`, `losses` (runs,). The Huber losses are
    summed, not averaged, and the tolerances are tight: with the mean the optimizer stops early, which spoilt the
    published fit (Besiroglu et al. 2024, section 4). Intervals resample the runs, as the paper's.

    ValueError for fewer than six runs, numbers that are not above 0, losses that do not fall with N and D, and runs
    that vary one of N, D and D / N only, from which the two terms cannot be told apart.
    """
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    n, d, loss = check_runs(parameters, tokens, losses)
    _check_design(n, d)
    # Centred, so that coefficients and exponents are less correlated; undone in `_law`.
    centre = np.array([np.log(n).mean(), np.log(d).mean()])
    data = np.log(n) - centre[0], np.log(d) - centre[1], np.log(loss)

    def fit_sample(rows: Rows) -> ParametricLaw:
        return _law(_minimise(best, (data[0][rows], data[1][rows], data[2][rows]))[0], centre)

    with threadpool_limits(limits=1):  # for five unknowns threads cost a hundred times what they save
        best, huber = min((_minimise(start, data) for start in _starts(data, centre)), key=lambda result: result[1])
        law = _law(best, centre)
        _check_terms(law, n, d, loss)
        resampled = resample(fit_sample, len(n), resamples, seed)
    names = ("E", "A", "B", "alpha", "beta", "exponent")
    intervals = {name: interval([getattr(each, name) for each in resampled]) for name in names}
    return FittedLaw(law, intervals, resampled, huber, len(n))


def hold_out_largest(
    parameters: ArrayLike, tokens: ArrayLike, losses: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> HeldOut:
    """How well the smaller runs tell the loss of the one with the largest budget."""
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


def _starts(data: Data, centre: Array) -> list[Array]:
    """The most promising points of the grid, in the centred variables."""
    grid = itertools.product(*STARTS.values())
    points = np.array([(a - alpha * centre[0], b - beta * centre[1], e, alpha, beta) for alpha, beta, e, a, b in grid])
    values = np.array([_objective(point, data)[0] for point in points])
    return list(points[np.argsort(values)[:_KEPT_STARTS]])


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


def _check_terms(law: ParametricLaw, n: Array, d: Array, loss: Array) -> None:
    """A term that is nothing for every run is one that the optimizer pushed away."""
    for name, term in (("parameters", law.A / n**law.alpha), ("tokens", law.B / d**law.beta)):
        if (term / loss).max() < HUBER / 10:
            raise ValueError(_UNEXPLAINED.format(name))


def _check_design(n: Array, d: Array) -> None:
    if len(n) < 6:
        raise ValueError(f"five numbers are fitted: it takes six runs at least, better dozens; got {len(n)}")
    for name, values in (("parameters", n), ("tokens", d), ("tokens per parameter", d / n)):
        factor = float(np.exp(np.ptp(np.log(values))))
        if factor < 1.5:
            raise ValueError(
                f"the runs vary the {name} by a factor of {factor:.2f} only: from these the terms of parameters and "
                "tokens cannot be told apart; train several sizes on several numbers of tokens each"
            )
