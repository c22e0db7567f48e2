"""A transformer layer and its feed-forward network."""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.attention import Attention
from lmworks.model.cache import Cache
from lmworks.model.norms import build_norm
from lmworks.model.positions import Rotation

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,  # with the exact normal distribution function
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
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
        """(batch, length, width) → (batch, length, width), each position by itself."""
        if self.gate is None:
            return self.down(self.activation(self.up(hidden)))
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))


class Block(nn.Module):
    """Attention, then feed-forward, each inside a residual connection with its norm before or after it."""

    def __init__(self, config: configs.Block, width: int, causal: bool) -> None:
        super().__init__()
        self.norm_at = config.norm_at
        self.attention = Attention(config.attention, width, causal)
        self.attention_norm = build_norm(config.norm, width)
        self.feed_forward = FeedForward(config.feed_forward, width)
        self.feed_forward_norm = build_norm(config.norm, width)

    def forward(
        self, hidden: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        """(batch, length, width) → (batch, length, width); the other arguments as in `Attention.forward`."""
        if self.norm_at == "pre":
            hidden = hidden + self.attention(self.attention_norm(hidden), rotation, mask, cache, layer)
            return hidden + self.feed_forward(self.feed_forward_norm(hidden))
        hidden = self.attention_norm(hidden + self.attention(hidden, rotation, mask, cache, layer))
        return self.feed_forward_norm(hidden + self.feed_forward(hidden))
