"""What a forward gives for each wanted position: its logits, the most probable token and the normaliser of its softmax.

A kernel that writes the logits knows the last two almost for free, while reading a vocabulary again costs as much as a
sampler may. So they travel together.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from lmworks.generate.exponentials import log_sum_exp


class LogitRows(NamedTuple):
    """One row for each wanted position.

    logits           (rows, vocabulary) float32, the model's raw ones.
    best             (rows,) int64, the id of the largest logit.
    log_normaliser   (rows,) float32, ln Σ exp(logits). Not finite exactly where no token can be chosen: a logit is NaN
                     or +inf, or all are -inf.
    """

    logits: Tensor
    best: Tensor
    log_normaliser: Tensor

    @classmethod
    def from_logits(cls, logits: Tensor) -> "LogitRows":
        """The rows of (rows, vocabulary) float32; the same bits for a row whatever stands beside it (on the CPU)."""
        best = logits.argmax(-1)
        return cls(logits, best, log_sum_exp(logits, logits.gather(1, best[:, None])).float().squeeze(1))

    def select(self, rows: Sequence[int]) -> "LogitRows":
        """The rows with these numbers, in this order."""
        return LogitRows(*(values[list(rows)] for values in self))
