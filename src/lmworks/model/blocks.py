"""A transformer layer: its parts, and how their norms and residual connections are arranged."""

from collections.abc import Callable

from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.attention import Attention, Context, Memory
from lmworks.model.feed_forward import FeedForward
from lmworks.model.mixture_of_experts import MixtureOfExperts
from lmworks.model.norms import build_norm


class Block(nn.Module):
    """Attention, cross-attention where the decoder has an encoder to look at, and feed-forward, each with its norms.

    `X_norm` is the norm before or after part X, as `config.Block` says; `X_post_norm` the second one of a sandwich.
    """

    def __init__(self, config: configs.Block, width: int, causal: bool) -> None:
        super().__init__()
        self.norm_at = config.norm_at
        self.attention = Attention(config.attention, width, causal)
        self.cross_attention = Attention(config.cross, width, causal=False) if config.cross else None
        match config.feed_forward:
            case configs.FeedForward() as dense:
                self.feed_forward = FeedForward(dense, width)
            case configs.MixtureOfExperts() as mixture:
                self.feed_forward = MixtureOfExperts(mixture, width)
        self.attention_norm = build_norm(config.norm, width)
        self.cross_attention_norm = build_norm(config.norm, width) if config.cross else None
        self.feed_forward_norm = build_norm(config.norm, width)
        sandwich = config.norm_at == "sandwich"
        self.attention_post_norm = build_norm(config.norm, width) if sandwich else None
        self.cross_attention_post_norm = build_norm(config.norm, width) if sandwich and config.cross else None
        self.feed_forward_post_norm = build_norm(config.norm, width) if sandwich else None

    def forward(self, hidden: Tensor, context: Context, memory: Memory | None = None) -> Tensor:
        """(batch, length, width) → (batch, length, width)."""
        if self.norm_at == "parallel":
            attended = self.attention(self.attention_norm(hidden), context)
            return hidden + attended + self.feed_forward(self.feed_forward_norm(hidden))
        hidden = self._residual(
            hidden, lambda x: self.attention(x, context), self.attention_norm, self.attention_post_norm
        )
        cross = self.cross_attention
        if cross is not None and memory is not None:
            hidden = self._residual(
                hidden,
                lambda x: cross.cross(x, memory, context.layer),
                self.cross_attention_norm,
                self.cross_attention_post_norm,
            )
        return self._residual(hidden, self.feed_forward, self.feed_forward_norm, self.feed_forward_post_norm)

    def _residual(
        self, hidden: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module | None, post_norm: nn.Module | None
    ) -> Tensor:
        assert norm is not None
        if self.norm_at == "post":
            return norm(hidden + part(hidden))
        change = part(norm(hidden))
        return hidden + (change if post_norm is None else post_norm(change))
