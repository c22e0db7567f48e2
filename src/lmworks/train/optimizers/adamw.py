"""AdamW (Loshchilov & Hutter 2019, Algorithm 2): torch's, which also takes a weight in one pass over its memory."""

from typing import Any

import torch
from torch import Tensor

from lmworks.kernels import training_kernels


class AdamW(torch.optim.AdamW):
    """`step` is torch's; `update` does the same for one weight, with what else is to be done to it."""

    @torch.no_grad()
    def update(
        self, group: dict[str, Any], weight: Tensor, gradient: Tensor, factor: float, rounded: Tensor | None
    ) -> bool:
        """A step of a weight of the group with `factor` times the gradient, whichever dtype that has; `rounded` becomes
        the weight's rounding. False, and nothing changed, where there is no kernel for them, and `step` is needed."""
        if weight.device.type != "cpu":
            return False  # before the step's number is fetched from there
        # With torch's names, so that both continue from one another.
        state = self.state.get(weight) or {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        step = int(state["step"]) + 1
        settings = training_kernels.AdamWSettings(group["lr"], group["betas"], group["eps"], group["weight_decay"])
        moments = training_kernels.Moments(state["exp_avg"], state["exp_avg_sq"])
        if not training_kernels.adamw_step(weight, moments, gradient, rounded, step, settings, factor):
            return False
        state["step"] += 1
        self.state[weight] = state
        return True
