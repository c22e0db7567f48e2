"""Multi-head, multi-query and grouped-query attention (MHA, MQA, GQA); one forward, one order, for every family."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.dot_product_attention import attend
from lmworks.model.kv_cache import Cache
from lmworks.model.masks import Mask
from lmworks.model.norms import build_norm
from lmworks.model.positions import RelativeBias, Rotation, Shaw, TransformerXL, rotate


@dataclass(frozen=True)
class Context:
    """Inputs of a layer's self-attention besides the hidden states: computed by the stack, shared by equal layers.

    queries, keys   positions, (batch or 1, length) and (batch or 1, stored) int64.
    rotation        of queries and new keys, where the layer rotates.
    mask            True = may attend, (batch or 1, 1, length or 1, stored) bool, or a block mask; None: a causal
                    attention sees the past and any other attention sees everything.
    bias            added to the scores, (batch or 1, heads, length, stored).
    cache           where keys and values are kept; `layer` is this layer's number there.
    """

    queries: Tensor
    keys: Tensor
    rotation: Rotation | None = None
    mask: Mask | None = None
    bias: Tensor | None = None
    cache: Cache | None = None
    layer: int = 0


@dataclass(frozen=True)
class Memory:
    """The encoder's output, which an encoder–decoder's decoder attends to.

    hidden   the encoder's output, (batch, stored, width).
    mask     (batch, 1, 1, stored) bool, True = a real token; None: all are.

    Without gradients, each layer's keys and values of it are computed once, at the first step of a generation, and kept
    here. With gradients they are neither kept nor looked up: a graph that was kept is gone after its backward, and what
    was computed without a graph gives the projections no gradient. After a change of the weights, encode again.
    """

    hidden: Tensor
    mask: Tensor | None = None
    projected: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)


class Attention(nn.Module):
    """project → query/key norm → rotate → cache → scaled dot-product → output (Vaswani et al. 2017; Ainslie et al.
    2023).

    The order is fixed. Normalising after the rotation, or caching before it, would run as well and give another model.
    """

    def __init__(self, config: configs.Attention, width: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.scale = config.head_dim**-0.5 if config.scale is None else config.scale
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(width, query_width, bias=config.bias)
        self.key = nn.Linear(width, key_width, bias=config.bias)
        self.value = nn.Linear(width, key_width, bias=config.bias)
        self.output = nn.Linear(query_width, width, bias=config.has_output_bias)
        self.query_norm = build_norm(config.qk_norm, config.head_dim) if config.qk_norm else None
        self.key_norm = build_norm(config.qk_norm, config.head_dim) if config.qk_norm else None
        self.sinks = nn.Parameter(torch.zeros(config.heads)) if config.sinks else None
        self.relative = _relative(config, width)

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """Self-attention: `hidden` (batch, length, width) → the same shape."""
        query, key = self.query_and_key(hidden, context)
        value = self._split(self.value(hidden))  # (batch, kv_heads, length, head_dim)
        if context.cache is not None:
            key, value = context.cache.update(context.layer, key, value)  # (batch, kv_heads, stored, head_dim)
        query, bias = self._distances(query, context)
        return self._attend(query, key, value, context.mask, bias, self.causal)

    def query_and_key(self, hidden: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Normalised and rotated: (batch, heads, length, head_dim), (batch, kv_heads, length, head_dim)."""
        query, key = self._split(self.query(hidden)), self._split(self.key(hidden))
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if context.rotation is not None:
            query, key = rotate(query, context.rotation), rotate(key, context.rotation)
        return query, key

    def cross(self, hidden: Tensor, memory: Memory, layer: int) -> Tensor:
        """Cross-attention: `hidden` (batch, length, width) asks, `memory` answers → the shape of `hidden`."""
        query = self._split(self.query(hidden))
        if self.query_norm is not None:
            query = self.query_norm(query)
        # Compiled code that kept them would be compiled again for every layer, and only one pass asks it.
        keeps = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        cached = memory.projected.get(layer) if keeps else None
        if cached is not None:
            key, value = cached  # (batch, kv_heads, stored, head_dim) each
        else:
            key, value = self._split(self.key(memory.hidden)), self._split(self.value(memory.hidden))
            key = key if self.key_norm is None else self.key_norm(key)
            if keeps:
                memory.projected[layer] = key, value
        return self._attend(query, key, value, memory.mask, None, causal=False)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, bias: Tensor | None, causal: bool
    ) -> Tensor:
        attended = attend(
            query,
            key,
            value,
            scale=self.scale,
            mask=mask,
            causal=causal,
            bias=bias,
            softcap=self.config.softcap,
            sinks=self.sinks,
            prefix=self._prefix(key),
        )  # (batch, heads, length, head_dim)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _prefix(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keys and values, (kv_heads, P, head_dim) each, that every query sees besides; dtype and device of `like`."""
        return None

    def _distances(self, query: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """The query as the contents see it, and the bias of the scores: the stack's, or this layer's own."""
        match self.relative:
            case RelativeBias():
                return query, self.relative(context.queries, context.keys)
            case Shaw():
                return query, self.relative(query, context.queries, context.keys) * self.scale
            case TransformerXL():
                bias = self.relative(query, context.queries, context.keys) * self.scale
                return query + self.relative.content_bias[:, None], bias
            case _:
                return query, context.bias

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, length, heads * head_dim) → (batch, heads, length, head_dim)."""
        return projected.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)


def _relative(config: configs.Attention, width: int) -> RelativeBias | Shaw | TransformerXL | None:
    match config.position:
        case configs.RelativeBias() as bias:
            return RelativeBias(bias, config.heads)
        case configs.Shaw() as shaw:
            return Shaw(shaw, config.head_dim)
        case configs.TransformerXL():
            return TransformerXL(config.heads, config.head_dim, width)
        case _:
            return None
