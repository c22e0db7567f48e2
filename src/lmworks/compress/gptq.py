"""GPTQ (Frantar et al. 2022): round a matrix column by column, and let the columns to come make up for each error.

With the inputs X of a layer, H = X Xᵀ is the Hessian of the squared error of its outputs, for each row of its weights.
When column q is rounded, moving the others by -(w_q - ŵ_q) / [H⁻¹]_qq · [H⁻¹]_q,: is the best that they can do
(equation 2). The rows of the Cholesky factor of H⁻¹ are these updates for all columns in order (section 3.3, step 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lmworks.compress.config import GPTQConfig
from lmworks.compress.weight_grid import Grid

_TOGETHER = 128  # columns whose updates of the columns behind them wait, and come at once


def gptq_matrix(weight: Tensor, second_moment: Tensor, grid: Grid, config: GPTQConfig) -> Tensor:
    """The q of `weight` (rows, columns), of its dtype, float32 or float64; `second_moment` (columns, columns) is the
    mean of x xᵀ over the layer's inputs."""
    diagonal, q = second_moment.diagonal(), torch.empty_like(weight)
    order = diagonal.argsort(descending=True, stable=True) if config.order else torch.arange(len(diagonal))

    def round_column(rest: Tensor, column: int) -> Tensor:
        index = order[column : column + 1]
        q[:, index] = chosen = grid.nearest(rest[:, column : column + 1], index)
        return grid.levels(chosen, index)

    root = inverse_root(second_moment.to(weight.dtype)[order][:, order], config.damping)
    solve_columns(weight[:, order], root, round_column)
    return q


def solve_columns(
    weight: Tensor, root: Tensor, solve: Callable[[Tensor, int], Tensor], together: int = _TOGETHER
) -> Tensor:
    """`weight` (rows, columns) with each column, in order, replaced by what `solve` gives, (rows, 1), for the weights
    as they are then and the column's number, and the columns to come moved to make up for it: those of the same
    `together` at once, the others behind the last of these. `root` is `inverse_root` of what the layer reads."""
    rest = weight.clone()
    for start in range(0, weight.shape[1], together):
        end = min(start + together, weight.shape[1])
        errors = torch.empty_like(rest[:, start:end])
        for column in range(start, end):
            solved = solve(rest, column)
            error = (rest[:, column : column + 1] - solved) / root[column, column]
            rest[:, column:end] -= error * root[column, column:end]
            rest[:, column : column + 1] = solved  # exactly
            errors[:, column - start] = error[:, 0]
        rest[:, end:] -= errors @ root[start:end, end:]
    return rest


def inverse_root(second_moment: Tensor, damping: float = 0.01) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped Hessian, of the dtype of `second_moment`."""
    damped = second_moment.double().clone()
    added = damping * float(second_moment.diagonal().mean()) + 1e-30  # a layer may have seen zeros alone
    damped.diagonal().add_(added)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).to(second_moment.dtype)
