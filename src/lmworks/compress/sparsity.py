"""Pruning of single weights: by magnitude, by Wanda (Sun et al. 2024), or by SparseGPT (Frantar & Alistarh 2023).

Wanda's score is |W_ij| · ‖X_j‖₂ (equation 1), compared within a row; magnitudes are compared within a matrix.
SparseGPT goes column by column as GPTQ does: a weight that goes moves those behind it so that they make up for it
(equation 4). Its scores are w² / [H⁻¹]_qq, with the Hessian of the columns from q on, compared within blocks of columns
(algorithm 1). In the pattern 2:4 the two least of each four neighbours in a row become 0.
"""

import copy

import torch
from torch import Tensor

from lmworks.compress.block_calibration import CalibrationText, blocks_of, calibrated_blocks, linears
from lmworks.compress.config import Sparsity
from lmworks.compress.gptq import inverse_root, solve_columns
from lmworks.model.checkpoint import Checkpoint
from lmworks.progress import Report, no_report

BLOCK = 128  # columns whose weights SparseGPT compares
_FOUR = 4  # neighbours that are compared in the pattern 2:4


@torch.no_grad()
def sparsify(
    checkpoint: Checkpoint, config: Sparsity, text: CalibrationText | None = None, progress: Report = no_report
) -> Checkpoint:
    """The checkpoint with zeros in its decoder's linear layers, each pruned by what the pruned ones before it give.
    `magnitude` alone needs no `text`. ValueError for columns that the pattern does not divide, and for layers that no
    token reaches."""
    dtype, model = checkpoint.model.tokens.dtype, copy.deepcopy(checkpoint.model).float()
    count = len(blocks_of(model))
    if config.kind == "magnitude":
        for linear in linears(model).values():
            linear.weight.masked_fill_(least(linear.weight.abs(), config, by_row=False), 0.0)
        return checkpoint.with_model(model.to(dtype))
    assert text is not None
    for block in calibrated_blocks(model, text):
        statistics = block.statistics(moments=config.kind == "sparsegpt")
        for name, linear in block.linears().items():
            if (seen := statistics.get(name)) is None:
                raise ValueError(f"no token of the calibration text reaches {name}: give more text")
            if seen.second_moment is None:
                linear.weight.masked_fill_(wanda_mask(linear.weight, seen.mean_square, config), 0.0)
            else:
                linear.weight.copy_(sparsegpt_matrix(linear.weight, seen.second_moment, config))
        progress(block.number + 1, count, "layers pruned")
    return checkpoint.with_model(model.to(dtype))


def wanda_mask(weight: Tensor, mean_square: Tensor, config: Sparsity) -> Tensor:
    """Which weights (rows, columns) become 0, by the mean squares (columns,) of what they read."""
    return least(weight.abs() * mean_square.sqrt(), config, by_row=True)


def sparsegpt_matrix(weight: Tensor, second_moment: Tensor, config: Sparsity) -> Tensor:
    """`weight` (rows, columns) with zeros, of its dtype; `second_moment` (columns, columns) is the mean of x xᵀ."""
    root, mask = inverse_root(second_moment.to(weight.dtype)), torch.zeros_like(weight).bool()
    size = _FOUR if config.pattern == "2:4" else BLOCK

    def zero(rest: Tensor, column: int) -> Tensor:
        if column % size == 0:
            block = slice(column, column + size)
            mask[:, block] = least((rest[:, block] / root.diagonal()[block]).square(), config, by_row=False)
        return rest[:, column : column + 1].masked_fill(mask[:, column : column + 1], 0.0)

    return solve_columns(weight, root, zero, BLOCK)


def least(scores: Tensor, config: Sparsity, by_row: bool) -> Tensor:
    """The least scores (rows, columns), bool: of each row, or of the whole; in the pattern 2:4, of each four."""
    shape = scores.shape
    if config.pattern == "2:4":
        if shape[1] % _FOUR:
            raise ValueError(f"{shape[1]} columns are no multiple of 4, as the pattern 2:4 needs: leave it out")
        scores = scores.view(-1, _FOUR)
    elif not by_row:
        scores = scores.view(1, -1)
    lowest = scores.argsort(dim=-1, stable=True)[:, : round(scores.shape[-1] * config.sparsity)]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, lowest, True).view(shape)
