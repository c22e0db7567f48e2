"""Fits to the runs of a sweep: the scaling law, how well it predicts the largest run, and the other approaches.

Free of torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lmworks.records import Unscored
from lmworks.train.planning.scaling_law_fit import (
    RESAMPLES,
    FittedLaw,
    FittedPowerLaw,
    HeldOut,
    fit_envelope,
    fit_isoflop,
    fit_law,
    hold_out_largest,
)
from lmworks.train.planning.scaling_laws import training_flops

T = TypeVar("T")

STEEPEST = 1.5  # of exponents: published ones are below 0.5 (`planning/scaling_laws.py`)


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that was trained to its end.

    name              by which its log is called
    parameters        embeddings included
    tokens            learned from
    loss              of the held-out text, in nats per token, at the end of the schedule
    training_loss     of the last step
    bits_per_byte     of the held-out text; None for a tokenizer whose tokens are not plain bytes
    seconds           on the wall; None for a run that was interrupted
    expected_seconds  as the machine was measured before; None where it was not
    """

    name: str
    parameters: int
    tokens: int
    loss: float
    training_loss: float
    bits_per_byte: float | None
    seconds: float | None
    expected_seconds: float | None

    @property
    def flops(self) -> float:
        """6 N D."""
        return training_flops(self.parameters, self.tokens)


@dataclass(frozen=True, slots=True)
class Findings:
    """The fits to the runs; one that failed says why.

    law        L(N, D), fitted to all runs (approach 3 of Hoffmann et al. 2022)
    held_out   the run with the most operations, predicted by a law of all others
    isoflop    approach 2; envelope  approach 1
    """

    law: FittedLaw | Unscored
    held_out: HeldOut | Unscored
    isoflop: FittedPowerLaw | Unscored
    envelope: FittedPowerLaw | Unscored


def doubts(law: FittedLaw, runs: Sequence[Trained]) -> list[str]:
    """Why a law that fits these runs may say nothing about others; in words, empty where nothing speaks against it."""
    reasons = []
    unexplained = law.law.E / min(run.loss for run in runs)
    if unexplained < 1e-3:
        reasons.append(
            "E is nothing: the runs are too far from it to determine it, and losses of larger ones come out too low"
        )
    for name, varied, remedy in (("alpha", "parameters", "larger sizes"), ("beta", "tokens", "more lengths")):
        if getattr(law.law, name) > STEEPEST:
            reasons.append(
                f"{name} is {getattr(law.law, name):.3g}, steeper than any law of language: the loss hardly depends on "
                f"the {varied} but for the fewest, so that more minutes or {remedy} are needed"
            )
    exponent = law.intervals["exponent"]
    if exponent.high - exponent.low > 0.5:
        reasons.append("the interval of the exponent is wider than 0.5: how to divide a budget is not known yet")
    return reasons


def find(runs: Sequence[Trained], resamples: int = RESAMPLES) -> Findings:
    """All fits to `runs`, in whatever order; intervals are bootstrapped over the runs."""
    runs = sorted(runs, key=lambda run: run.name)  # the bootstrap draws by place
    columns = ([run.parameters for run in runs], [run.tokens for run in runs], [run.loss for run in runs])
    return Findings(
        _attempt(lambda: fit_law(*columns, resamples=resamples)),
        _attempt(lambda: hold_out_largest(*columns, resamples=resamples)),
        _attempt(lambda: fit_isoflop(*columns, resamples=resamples)),
        _attempt(lambda: fit_envelope(*columns, resamples=resamples)),
    )


def _attempt(fit: Callable[[], T]) -> T | Unscored:
    try:
        return fit()
    except ValueError as error:
        return Unscored(str(error))
