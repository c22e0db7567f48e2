"""Alarms of a run: a loss or a gradient that is no number, and a loss that jumps."""

import math
from dataclasses import dataclass

from lmworks.train.config import GuardConfig

MOST_IN_A_ROW = 10  # steps objected to; a loss that returns does so within a few


class TrainingStoppedError(RuntimeError):
    """A guard ended the run; its last checkpoint stays."""


@dataclass
class Guard:
    """Watches the loss of each step before the optimizers see it.

    mean, variance  exponential averages of the losses that passed, over about `config.memory` steps
    seen            how many passed
    in_a_row        how many steps before this one were objected to, one after another
    """

    config: GuardConfig
    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    in_a_row: int = 0

    def violation(self, loss: float, norm: float) -> str | None:
        """The reason not to take a step of this loss and gradient norm; a loss without one is remembered.

        TrainingStoppedError at the last of `MOST_IN_A_ROW` objections: a loss that stays far above its mean has not
        jumped, it has moved, and weights whose every loss is no number stay so. Leaving out what is like it would leave
        out the rest of the run.
        """
        reason = self._wrong(loss, norm)
        if reason is not None:
            self.in_a_row += 1
            if self.in_a_row >= MOST_IN_A_ROW:
                raise TrainingStoppedError(
                    f"{reason}, and {self.in_a_row} steps in a row were objected to: leaving steps out does not help. "
                    "Look at the data from there on, lower the rate, or raise guard.deviations or guard.least where "
                    "the loss only jumps"
                )
            return reason
        self.in_a_row = 0
        self.seen += 1
        weight = max(1 / self.config.memory, 1 / self.seen)  # a plain mean until the memory is full
        change = loss - self.mean
        self.mean += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change**2)
        return None

    def _wrong(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the norm of the gradients is {norm}"
        deviation = math.sqrt(self.variance)
        limit = self.mean + max(self.config.deviations * deviation, self.config.least)
        if self.config.deviations and self.seen >= self.config.memory and loss > limit:
            return f"the loss jumped to {loss:.4f}, from {self.mean:.4f} ± {deviation:.4f}"
        return None
