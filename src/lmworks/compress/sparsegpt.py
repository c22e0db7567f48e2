"""SparseGPT: set weights to 0 column by column, and let the columns to come make up for each (Frantar & Alistarh 2023,
"SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot").

With H the Hessian of the squared error of a layer's outputs, the mask takes the least w² / [H⁻¹]²_qq of each block of
columns (algorithm 1), and a weight that goes moves those behind it by -w / [H⁻¹]_qq · [H⁻¹]_q,: (equation 4), H⁻¹ being
that of the columns from q on: the rows of its Cholesky factor.
"""

import torch
from torch import Tensor

from lmworks.compress.pruning_config import Sparsity

BLOCK = 128  # columns whose mask is chosen together, but in a pattern n:m


def sparsegpt_matrix(weight: Tensor, second_moment: Tensor, config: Sparsity) -> Tensor:
    """`weight` (rows, columns) with zeros, of its dtype; `second_moment` (columns, columns) is the mean of x xᵀ.
    ValueError for columns that the pattern does not divide."""
    count, size = config.of_each or (0, BLOCK)
    if config.of_each and weight.shape[1] % size:
        raise ValueError(
            f"{weight.shape[1]} columns are no multiple of {size}: take another pattern than {config.pattern}"
        )
    root, rest = _inverse_root(second_moment.double(), config.damping), weight.double().clone()
    rest[:, second_moment.diagonal() == 0] = 0.0  # nothing was ever read there
    for start in range(0, weight.shape[1], size):
        end = min(start + size, weight.shape[1])
        scores = (rest[:, start:end] / root.diagonal()[start:end]).square()
        if config.of_each:
            lowest = scores.argsort(dim=1, stable=True)[:, :count]
            mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, lowest, True)
        else:
            lowest = scores.flatten().argsort(stable=True)[: round(scores.numel() * config.sparsity)]
            mask = torch.zeros_like(scores, dtype=torch.bool).flatten().index_fill_(0, lowest, True).view(scores.shape)
        errors = torch.zeros_like(scores)
        for column in range(start, end):
            kept = rest[:, column].masked_fill(mask[:, column - start], 0.0)
            errors[:, column - start] = (rest[:, column] - kept) / root[column, column]
            rest[:, column:end] -= errors[:, column - start, None] * root[column, column:end]
            rest[:, column] = kept
        rest[:, end:] -= errors @ root[start:end, end:]
    return rest.to(weight.dtype)


def _inverse_root(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse; a column of zeros is damped to one."""
    damped, diagonal = hessian.clone(), hessian.diagonal()
    damped.diagonal().add_(damping * diagonal.mean() + (diagonal == 0))
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
