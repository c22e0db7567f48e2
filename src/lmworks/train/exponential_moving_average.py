"""The exponential moving average (EMA) of the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor


class ExponentialMovingAverage:
    """`weights` follow the masters: w̄ ← d w̄ + (1 - d) w, with d = min(decay, (1 + n) / (10 + n)) at update n, so that
    the first weights, which are noise, do not stay in it for long. Without a decay it is empty."""

    def __init__(self, masters: Mapping[str, Tensor], decay: float | None) -> None:
        self.decay = decay
        self.weights = {} if decay is None else {name: w.detach().clone() for name, w in masters.items()}
        self._masters = masters

    @torch.no_grad()
    def update(self, step: int) -> None:
        """`step` is the number of updates before this one."""
        if self.decay is None:
            return
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, weight in self.weights.items():
            weight.lerp_(self._masters[name], 1 - keep)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """ValueError for averages of another model, or of a run that had none."""
        if weights.keys() != self.weights.keys():
            raise ValueError("the saved run averaged other weights, or none: leave `average` as it was")
        for name, weight in self.weights.items():
            weight.copy_(weights[name])
