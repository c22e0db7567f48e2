"""W x + b + scale · B (A x) as one product, rounded once.

    [W, B] [x; scale · A x] + b        backward: g ↦ [Wᵀ, Aᵀ] [g; scale · Bᵀ g]

A change is at first smaller than half the distance of a bfloat16 output from its neighbours: added to an output that
was rounded already, it would be lost.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


class LowRankLinear(torch.autograd.Function):
    """`inputs` (…, in), frozen `weight` (out, in) and `bias` (out,), `a` (r, in), `b` (out, r) → (…, out).

    The backward keeps the inputs and A x.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        inner = F.linear(inputs, a).mul_(scale)  # (…, r)
        ctx.save_for_backward(inputs, weight, a, b, inner)
        ctx.scale = scale
        return F.linear(torch.cat((inputs, inner), dim=-1), torch.cat((weight, b), dim=1), bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, a, b, inner = ctx.saved_tensors
        gradient = grad_outputs[0].flatten(0, -2)  # (n, out)
        of_inner = (gradient @ b).mul_(ctx.scale)  # (n, r)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = torch.cat((gradient, of_inner), dim=-1) @ torch.cat((weight, a))
            of_inputs = of_inputs.view(inputs.shape)
        return of_inputs, None, None, of_inner.T @ inputs.flatten(0, -2), gradient.T @ inner.flatten(0, -2), None
