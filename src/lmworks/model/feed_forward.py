"""The feed-forward network of a layer."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs


def squared_relu(x: Tensor) -> Tensor:
    """So et al. 2021, Primer."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,  # with the exact normal distribution function
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": squared_relu,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """Two projections around an activation, or three when gated (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, config: configs.FeedForward, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, config.hidden, bias=config.bias) if config.gated else None
        self.up = nn.Linear(width, config.hidden, bias=config.bias)
        self.down = nn.Linear(config.hidden, width, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, width) → (…, width), each position by itself."""
        if self.gate is None:
            return self.down(self.activation(self.up(hidden)))
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))
