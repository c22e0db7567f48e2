"""Fits of scaling laws: known laws come back, units and order change nothing, and what cannot be fitted is refused."""

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.train.planning.scaling_law_fit import _objective, fit_envelope, fit_isoflop, fit_law, hold_out_largest
from lmworks.train.planning.scaling_laws import LAWS, ParametricLaw

LAW: ParametricLaw = LAWS["besiroglu"].law  # type: ignore[assignment]
NAMES = ("E", "A", "B", "alpha", "beta")


def runs(law=LAW, noise=0.0, seed=0, budgets=9, sizes=9):
    """(parameters, tokens, losses) of several sizes about the best one at each of several budgets."""
    flops = np.repeat(np.logspace(18.7, 21.5, budgets), sizes)
    best = np.array([law.allocate(c).parameters for c in flops])
    parameters = best * np.tile(np.logspace(-0.8, 0.8, sizes), budgets)
    tokens = flops / 6 / parameters
    losses = np.array([law.loss(n, d) for n, d in zip(parameters, tokens, strict=True)])
    return parameters, tokens, losses * np.exp(noise * np.random.default_rng(seed).standard_normal(len(losses)))


@for_each("name", ["besiroglu", "chinchilla-3"])
def test_approach_3_finds_the_law_behind_clean_runs(name):
    law = LAWS[name].law
    fitted = fit_law(*runs(law), resamples=5)
    for number in NAMES:
        assert getattr(fitted.law, number) == pytest.approx(getattr(law, number), rel=1e-5)
    assert fitted.n == 81 and fitted.huber < 1e-12
    loss, interval = fitted.predict(70e9, 1.4e12)
    assert loss == pytest.approx(law.loss(70e9, 1.4e12), rel=1e-8)
    assert interval.low == pytest.approx(interval.high, rel=1e-6)


def test_noisy_runs_give_the_law_within_its_intervals():
    """A tenth of a per cent of noise; 95 % intervals may each miss, so that of the prediction counts, where the
    coefficients' errors, which go together, cancel."""
    fitted = fit_law(*runs(noise=1e-3), resamples=60)
    assert fitted.law.exponent == pytest.approx(LAW.exponent, abs=0.02)
    assert fitted.intervals["exponent"].low < LAW.exponent < fitted.intervals["exponent"].high
    _, interval = fitted.predict(70e9, 1.4e12)
    assert interval.low < LAW.loss(70e9, 1.4e12) < interval.high
    assert 0 < interval.high - interval.low < 0.05


def test_more_noise_gives_wider_intervals():
    narrow, wide = (fit_law(*runs(noise=noise), resamples=40).intervals["exponent"] for noise in (5e-4, 5e-3))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_an_outlier_hardly_moves_the_fit():
    """What the Huber loss is for: least squares of the same runs would follow it."""
    parameters, tokens, losses = runs(noise=1e-4)
    losses[40] *= 1.2
    fitted = fit_law(parameters, tokens, losses, resamples=5)
    assert fitted.law.exponent == pytest.approx(LAW.exponent, abs=0.01)
    assert fitted.law.loss(70e9, 1.4e12) == pytest.approx(LAW.loss(70e9, 1.4e12), rel=2e-3)


def test_the_order_of_runs_and_the_units_of_sizes_change_nothing():
    parameters, tokens, losses = runs(noise=1e-3)
    fitted = fit_law(parameters, tokens, losses, resamples=2)
    order = np.random.default_rng(3).permutation(len(losses))
    again = fit_law(parameters[order], tokens[order], losses[order], resamples=2)
    millions = fit_law(parameters / 1e6, tokens / 1e9, losses, resamples=2)
    # The optimum is flat along a ridge, and the optimizer stops within its tolerance of it.
    for number in ("E", "alpha", "beta"):
        assert getattr(again.law, number) == pytest.approx(getattr(fitted.law, number), rel=1e-4)
        assert getattr(millions.law, number) == pytest.approx(getattr(fitted.law, number), rel=1e-4)
    assert millions.law.A * 1e6**millions.law.alpha == pytest.approx(fitted.law.A, rel=1e-3)
    assert millions.law.B * 1e9**millions.law.beta == pytest.approx(fitted.law.B, rel=1e-3)


def test_the_gradient_of_the_objective_is_that_of_differences():
    generator = np.random.default_rng(0)
    data = tuple(generator.normal(size=20) for _ in range(3))
    theta = generator.normal(size=5)
    _, gradient = _objective(theta, data)
    for place in range(5):
        step = np.zeros(5)
        step[place] = 1e-6
        difference = (_objective(theta + step, data)[0] - _objective(theta - step, data)[0]) / 2e-6
        assert gradient[place] == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_smaller_runs_tell_the_largest_one():
    held_out = hold_out_largest(*runs(noise=5e-4), resamples=40)
    assert held_out.fitted.n == 80
    assert held_out.predicted == pytest.approx(held_out.measured, rel=3e-3)
    assert held_out.interval.low <= held_out.predicted <= held_out.interval.high


def test_approaches_1_and_2_find_the_exponent_without_knowing_the_form():
    for fit in (lambda *r: fit_envelope(*r, bins=9, resamples=20), lambda *r: fit_isoflop(*r, resamples=20)):
        fitted = fit(*runs())
        # Exact but for rounding, since the sizes lie evenly about the best at each budget, and no budget differs.
        assert fitted.law.exponent == pytest.approx(LAW.exponent, abs=1e-6)
        assert len(fitted.optima) == 9 and fitted.n == 81
        assert fitted.intervals["exponent"].low <= fitted.law.exponent <= fitted.intervals["exponent"].high
    noisy = fit_isoflop(*runs(noise=2e-3), resamples=40)
    assert noisy.intervals["exponent"].low < LAW.exponent < noisy.intervals["exponent"].high


def test_a_budget_whose_best_size_was_not_bracketed_does_not_count():
    parameters, tokens, losses = runs()
    smallest_half = np.tile(np.arange(9) < 4, 9)  # all below the best size
    with pytest.raises(ValueError, match="on both sides of the best"):
        fit_isoflop(parameters[smallest_half], tokens[smallest_half], losses[smallest_half], resamples=2)


@for_each(
    ("change", "problem"),
    [
        (lambda n, d, loss: (n[:5], d[:5], loss[:5]), "six runs"),
        (lambda n, d, loss: (n, 20 * n, loss), "tokens per parameter"),
        (lambda n, d, loss: (np.full_like(n, 1e9), d, loss), "vary the parameters"),
        (lambda n, d, loss: (n, d, np.where(loss == loss[3], np.nan, loss)), "diverged"),
        (lambda n, d, loss: (n, d, loss[:-1]), "one number for each run"),
        (lambda n, d, loss: (n, d, 1 / loss), "do not fall"),
    ],
)
def test_runs_that_tell_nothing_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        fit_law(*change(*runs()), resamples=2)
