"""What a forward gives for each wanted position: its logits, the most probable token and the normaliser of its softmax.

A kernel that writes the logits knows the last two almost for free, while reading a vocabulary again costs as much as a
sampler may. So they travel together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BLOCK = 256


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
        """The rows of (rows, vocabulary) float32; on the CPU the same bits for a row whatever stands beside it."""
        best = logits.argmax(-1)
        largest = logits.gather(1, best[:, None])  # (rows, 1)
        # On a CPU few rows at a time, so that the temporaries stay in the cache.
        few = 4 if logits.device.type == "cpu" else max(1, len(logits))
        pieces = zip(logits.split(few), largest.split(few), strict=True)
        return cls(logits, best, torch.cat([_log_sum(*piece) for piece in pieces]))

    def select(self, rows: Sequence[int]) -> "LogitRows":
        """The rows with these numbers, in this order."""
        return LogitRows(*(values[list(rows)] for values in self))


def _log_sum(logits: Tensor, largest: Tensor) -> Tensor:
    """ln Σ exp(logits) of each row, float32: (rows, vocabulary), their maxima (rows, 1) -> (rows,).

    A sum over one long row would be cut among the threads and one over many rows not, and they would round differently.
    So blocks of a fixed length are summed, and the few sums of a row in their order, in float64.
    """
    weights = F.pad(logits - largest, (0, -logits.shape[1] % _BLOCK), value=-torch.inf).exp_()
    sums = weights.unflatten(1, (-1, _BLOCK)).sum(-1)  # (rows, blocks)
    return (sums.cumsum(-1, dtype=torch.float64)[:, -1].log() + largest.squeeze(1)).float()
