"""What a step gives for the tokens that it was asked about."""

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """One row for each wanted token.

    logits           (rows, vocabulary) float32.
    best             (rows,) int64, the id of the largest logit, the lowest one among equals.
    log_normaliser   (rows,) float32, the natural logarithm of the sum of exp(logits); not finite where a logit is NaN
                     or +inf.
    hidden           (rows, width) float32, the last hidden states, after the final norm; None: not asked for.
    """

    logits: Tensor
    best: Tensor
    log_normaliser: Tensor
    hidden: Tensor | None
