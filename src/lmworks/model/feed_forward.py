"""The feed-forward network of a layer."""

import torch
from torch import Tensor, nn

from lmworks.kernels import reference
from lmworks.model import config as configs

ACTIVATIONS = {**reference.ACTIVATIONS, "tanh": torch.tanh}


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
