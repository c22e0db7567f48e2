"""Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lion(torch.optim.Optimizer):
    """update = sign(β₁ m + (1 - β₁) g);  m ← β₂ m + (1 - β₂) g;  w ← w - rate · (update + decay · w)."""

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), rate = group["betas"], group["lr"]
            for weight in group["params"]:
                gradient: Tensor | None = weight.grad
                if gradient is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                update = momentum.lerp(gradient, 1 - beta1).sign_()
                momentum.lerp_(gradient, 1 - beta2)
                weight.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-rate)
