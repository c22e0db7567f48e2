"""Sums of exponentials over a vocabulary, and draws from them: for every row the same bits, whatever stands beside it.

A library's sum over one long row is cut among the threads, one over many rows is not, and they round differently. Here
each row is cut into blocks of a fixed length: a block is summed in float32 as one piece, the few blocks of a row in
float64 in their order. That is also what makes a draw cheap. The inverse of the distribution function is sought among
the sums of the blocks first and inside one block then, so no cumulated sum of the vocabulary is ever written.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK = 256  # summing 256 positive float32 keeps a relative error below 2e-6 in the worst order, 1e-7 as it is done


def in_blocks(values: Tensor, filling: float) -> Tensor:
    """Cut rows into blocks: (rows, n) -> (rows, blocks, BLOCK), with the filling behind the end."""
    missing = -values.shape[1] % BLOCK
    if missing:
        values = F.pad(values, (0, missing), value=filling)
    return values.view(values.shape[0], values.shape[1] // BLOCK, BLOCK)  # -1 is undefined without rows


def exponentials(values: Tensor, maxima: Tensor) -> Tensor:
    """exp(values - maxima) in blocks: (rows, n), (rows, 1) -> (rows, blocks, BLOCK), zeros behind the end."""
    return in_blocks(values - maxima, filling=-torch.inf).exp_()


def block_sums(blocks: Tensor) -> Tensor:
    """The sum over the blocks up to and with each one: (rows, blocks, BLOCK) -> (rows, blocks) float64."""
    return blocks.sum(-1).cumsum(-1, dtype=torch.float64)


def log_sum_exp(values: Tensor, maxima: Tensor) -> Tensor:
    """ln Σ exp(values) of each row: (rows, n), its maxima (rows, 1) -> (rows, 1) float64."""
    return block_sums(exponentials(values, maxima))[:, -1:].log() + maxima


def draw_from_softmax(values: Tensor, maxima: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """One entry of each row of softmax(values), by the inverse of its distribution function.

    (rows, n) float32, its maxima (rows, 1), draws (rows,) float64 in [0, 1) -> indices and their log-probabilities
    float32, both (rows,).
    """
    blocks = exponentials(values, maxima)
    reached = block_sums(blocks)  # (rows, blocks)
    total = reached[:, -1:]
    target = draws[:, None] * total
    block = torch.searchsorted(reached, target, right=True)  # (rows, 1)
    before = F.pad(reached, (1, 0)).gather(1, block)
    # How far the draw lies inside its block, in [0, 1): told as a part, because the float64 sum of the block's entries
    # differs from its float32 sum in the last digits.
    part = (target - before) / (reached.gather(1, block) - before)
    inside = blocks.take_along_dim(block[:, :, None], dim=1).squeeze(1)  # (rows, BLOCK)
    indices = block * BLOCK + _invert(inside, part)
    log_probabilities = values.gather(1, indices) - maxima - total.log().float()
    return indices.squeeze(1), log_probabilities.squeeze(1)


def _invert(weights: Tensor, parts: Tensor) -> Tensor:
    """The first entry at which the cumulated weight passes a part, in [0, 1), of the total: (rows, n), (rows, 1) ->
    (rows, 1). An entry without weight is never found.

    Cumulated in float64, so that rounding (below 1e-11 of the total) favours no entry.
    """
    reached = weights.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(reached, parts * reached[:, -1:], right=True)
