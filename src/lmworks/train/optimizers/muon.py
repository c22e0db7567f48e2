"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
networks"), with weight decay and Adam's update size (Liu et al. 2025, "Muon is Scalable for LLM Training").
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the polynomial a x + b x³ + c x⁵, which pulls singular values towards 1: Jordan's, as steep at 0 as may be. After
# five steps singular values from about 0.01 on lie between 0.7 and 1.2, which is orthogonal enough.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADAMS_SIZE = 0.2  # root mean square of Adam's updates, Liu et al. 2025, section 2.2


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """U Vᵀ of the singular value decomposition U S Vᵀ, nearly: (rows, columns) → the same shape, in bfloat16."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)  # singular values of at most 1
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


Place = tuple[slice, ...]
Whole = Callable[[Tensor, Tensor], tuple[Tensor, Place]]


def itself(weight: Tensor, values: Tensor) -> tuple[Tensor, Place]:
    """Of a weight that one process holds."""
    return values, (slice(None), slice(None))


class Muon(torch.optim.Optimizer):
    """For matrices. w ← (1 - rate · decay) w - rate · 0.2 sqrt(max(rows, columns)) · orthogonalised momentum.

    A matrix that several processes hold in parts is orthogonalised whole: `whole(weight, values)` makes one of the
    parts of all, and says which part this process has. One matrix is there at a time, and each process computes it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        weight_decay: float,
        steps: int = 5,
        whole: Whole = itself,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})
        self._whole = whole

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                gradient: Tensor | None = weight.grad
                if gradient is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                momentum.mul_(group["momentum"]).add_(gradient)
                ahead = gradient.add(momentum, alpha=group["momentum"])  # Nesterov's
                matrix, mine = self._whole(weight, ahead)
                update = orthogonalise(matrix, group["steps"])[mine].to(weight.dtype)
                size = ADAMS_SIZE * max(matrix.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)
