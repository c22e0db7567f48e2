"""Multi-head attention with grouped keys and values; one forward, one order, for every family."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.cache import Cache
from lmworks.model.norms import build_norm
from lmworks.model.positions import Rotation, rotate


class Attention(nn.Module):
    """project → query/key norm → rotate → cache → scaled dot-product → output (Vaswani et al. 2017; Ainslie et al.
    2023).

    The order is fixed. Normalising after the rotation, or caching before it, would run as well and give another model.
    """

    def __init__(self, config: configs.Attention, width: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(width, query_width, bias=config.bias)
        self.key = nn.Linear(width, key_width, bias=config.bias)
        self.value = nn.Linear(width, key_width, bias=config.bias)
        self.output = nn.Linear(query_width, width, bias=config.bias)
        self.query_norm = build_norm(config.qk_norm, config.head_dim) if config.qk_norm else None
        self.key_norm = build_norm(config.qk_norm, config.head_dim) if config.qk_norm else None

    def forward(
        self, hidden: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: Cache | None, layer: int
    ) -> Tensor:
        """`hidden` (batch, length, width) → the same shape.

        `mask` (batch or 1, 1, length or 1, stored) bool, True = may attend. Without one, a causal attention sees the
        past and any other attention sees everything. `layer` is this attention's number in `cache`.
        """
        query = self._split(self.query(hidden))  # (batch, heads, length, head_dim)
        key = self._split(self.key(hidden))  # (batch, kv_heads, length, head_dim)
        value = self._split(self.value(hidden))  # (batch, kv_heads, length, head_dim)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.update(layer, key, value)  # (batch, kv_heads, stored, head_dim)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=self.causal and mask is None,
            scale=self.config.scale,
            enable_gqa=self.config.heads != self.config.kv_heads,
        )  # (batch, heads, length, head_dim)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, length, heads * head_dim) → (batch, heads, length, head_dim)."""
        return projected.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
