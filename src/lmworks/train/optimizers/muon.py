"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
networks"), with weight decay and Adam's update size (Liu et al. 2025, "Muon is Scalable for LLM Training").
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Of the polynomial a x + b x³ + c x⁵, which pulls singular values towards 1: Jordan's, as steep at 0 as may be. After
# five steps singular values from about 0.01 on lie between 0.7 and 1.2, which is orthogonal enough.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADAMS_SIZE = 0.2  # root mean square of Adam's updates, Liu et al. 2025, section 2.2

# Values of matrices of one shape that are orthogonalised together. Small products cost more to call than to compute,
# and many large ones at a time leave the processor's caches.
BATCHED_VALUES = 2**17


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """U Vᵀ of each singular value decomposition U S Vᵀ, nearly: (count, rows, columns) → the same, in bfloat16.

    What becomes of a matrix does not depend on those next to it, so that all divisions of a model learn alike.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # singular values of at most 1
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


Place = tuple[slice, ...]
Whole = Callable[[Tensor, Tensor], tuple[Tensor, Place]]


def undivided(weight: Tensor, values: Tensor) -> tuple[Tensor, Place]:
    """The whole tensor, where one process holds it: the values themselves."""
    return values, (slice(None), slice(None))


class Muon(torch.optim.Optimizer):
    """For matrices. w ← (1 - rate · decay) w - rate · 0.2 sqrt(max(rows, columns)) · orthogonalised momentum.

    A matrix that several processes hold in parts is orthogonalised whole: `whole(weight, values)` makes one of the
    parts of all, and says which part this process has. Some matrices are there at a time (`BATCHED_VALUES`), and each
    process computes them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        weight_decay: float,
        steps: int = 5,
        whole: Whole = undivided,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})
        self._whole = whole

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            waiting: dict[torch.Size, list[_Momentum]] = defaultdict(list)
            for weight in group["params"]:
                if (gradient := weight.grad) is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                momentum.mul_(group["momentum"]).add_(gradient)
                matrix, mine = self._whole(weight, gradient.add(momentum, alpha=group["momentum"]))  # Nesterov's
                same_shape = waiting[matrix.shape]
                same_shape.append(_Momentum(weight, matrix.bfloat16(), mine))
                if len(same_shape) * matrix.numel() >= BATCHED_VALUES:
                    _update(waiting.pop(matrix.shape), group)
            for same_shape in waiting.values():
                _update(same_shape, group)


class _Momentum(NamedTuple):
    """A weight with its whole momentum, in the dtype that it is orthogonalised in, and the place of this process's
    part in that."""

    weight: Tensor
    matrix: Tensor
    mine: Place


def _update(same_shape: Sequence[_Momentum], group: Mapping[str, Any]) -> None:
    """Update weights whose whole matrices have one shape."""
    updates = orthogonalise(torch.stack([momentum.matrix for momentum in same_shape]), group["steps"])
    for (weight, matrix, mine), update in zip(same_shape, updates, strict=True):
        size = ADAMS_SIZE * max(matrix.shape) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update[mine], alpha=-group["lr"] * size)
