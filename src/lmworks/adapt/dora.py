"""DoRA (Liu et al. 2024, section 4): the length of each row of W + scale · B A is learned by itself, and the matrix
gives its direction alone.

    W' = m ∘ (W + scale · B A) / ‖W + scale · B A‖, row by row; m begins as ‖W‖; ‖·‖ has no gradient (section 4.3)

    add_adapter(model, LoraConfig(r=8, use_dora=True))
"""

import torch
from torch import Tensor

_BLOCK = 1 << 22  # values of W that are widened at a time


def direction_factor(magnitude: Tensor, lengths: Tensor) -> Tensor:
    """m / ‖V‖ of each row of V = W + scale · B A; a row of zeros has no direction, and stays."""
    return magnitude / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)


@torch.no_grad()
def row_lengths(weight: Tensor) -> Tensor:
    """‖w‖ of each row of `weight` (out, in): (out,), in float32 at least, without a gradient."""
    return torch.linalg.vector_norm(weight, dim=1, dtype=torch.promote_types(weight.dtype, torch.float32))


@torch.no_grad()
def changed_lengths(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The lengths of the rows of W and of W + scale · B A, (out,) each, as `row_lengths`; equal bits where B A is zero.

    `weight` (out, in), a (r, in), b (out, r). The sum is not built: a row's squared length is ‖w‖² + b · (2 s W Aᵀ + s²
    B A Aᵀ), the cost of LoRA's A for `out` more tokens. The error, some 1e-7 of ‖w‖ + ‖s B A‖ in float32, counts where
    the change all but cancels a row.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    a, b = a.to(wide), b.to(wide) * scale
    lengths, crossed = list[Tensor](), list[Tensor]()
    for narrow in weight.split(max(1, _BLOCK // weight.shape[1])):
        block = narrow.to(wide)
        lengths.append(torch.linalg.vector_norm(block, dim=1))
        crossed.append(block @ a.T)
    squares = torch.cat(lengths).square()
    factors = 2 * torch.cat(crossed) + b @ (a @ a.T)  # (out, r)
    return squares.sqrt(), (squares + (factors * b).sum(1)).clamp(min=0).sqrt()
