"""GPTQ: round a matrix column by column, and let the columns to come make up for each error (Frantar et al. 2022,
"GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers").

With the inputs X of a layer, H = X Xᵀ is the Hessian of the squared error of its outputs, for each row of its weights.
Rounding column q and moving the others by -(w_q - ŵ_q) / [H⁻¹]_qq · [H⁻¹]_q,: is the best that they can do (OBQ,
equation 2). The rows of the Cholesky factor of H⁻¹ are these updates for all columns in order (section 3.3, step 3).
"""

import torch
from torch import Tensor

from lmworks.compress.config import GPTQConfig
from lmworks.compress.weight_grid import Grid

_TOGETHER = 128  # columns whose updates of the columns behind them wait, and come at once


def gptq_matrix(weight: Tensor, second_moment: Tensor, grid: Grid, config: GPTQConfig) -> Tensor:
    """The q of `weight` (rows, columns), of its dtype, float32 or float64.

    second_moment  (columns, columns): the mean of x xᵀ over the layer's inputs.
    """
    inverse_root, order = _inverse_root(second_moment.to(weight.dtype), config)
    rest, q = weight[:, order].clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], _TOGETHER):
        end = min(start + _TOGETHER, weight.shape[1])
        errors = torch.empty_like(rest[:, start:end])
        for column in range(start, end):
            place, now = order[column : column + 1], rest[:, column : column + 1]
            q[:, place] = chosen = grid.nearest(now, place)
            error = (now - grid.levels(chosen, place)) / inverse_root[column, column]
            rest[:, column:end] -= error * inverse_root[column, column:end]
            errors[:, column - start] = error[:, 0]
        rest[:, end:] -= errors @ inverse_root[start:end, end:]
    return q


def _inverse_root(hessian: Tensor, config: GPTQConfig) -> tuple[Tensor, Tensor]:
    """The upper Cholesky factor of the damped Hessian's inverse, and the columns in their order."""
    diagonal = hessian.diagonal()
    order = diagonal.argsort(descending=True, stable=True) if config.order else torch.arange(len(hessian))
    damped = hessian[order][:, order].double()
    damped.diagonal().add_(config.damping * float(diagonal.mean()) + 1e-30)  # a layer may have seen zeros alone
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).to(hessian.dtype), order
