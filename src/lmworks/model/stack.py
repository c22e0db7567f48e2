"""Transformer blocks, with their norms and residual connections, and stacks of blocks."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from lmworks.kernels.training_kernels import KeyRanges, has_kernel
from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.attention import Attention, Context, Memory
from lmworks.model.kv_cache import Cache
from lmworks.model.mixture_of_experts import FeedForward, MixtureOfExperts
from lmworks.model.norms import build_norm
from lmworks.model.positions import RelativeBias, alibi, distances, rotation


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
        self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module | None, post_norm: nn.Module | None
    ) -> Tensor:
        assert norm is not None
        if self.norm_at == "post":
            return norm(hidden + sublayer(hidden))
        change = sublayer(norm(hidden))
        return hidden + (change if post_norm is None else post_norm(change))


class Stack(nn.Module):
    """Blocks in order, and the final norm. What equal blocks share is computed once: rotations, masks, biases."""

    def __init__(self, config: configs.Stack, width: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(block, width, config.causal) for block in config.blocks)
        self.norm = build_norm(config.final_norm, width) if config.final_norm else None
        heads = config.blocks[0].attention.heads
        self.relative_bias = RelativeBias(config.relative_bias, heads) if config.relative_bias else None
        # Attentions reduced to what their context depends on: equal kinds share a context.
        plain = {"bias": False, "output_bias": None, "scale": None, "qk_norm": None, "softcap": None, "sinks": False}
        self._kinds = [replace(block.attention, **plain) for block in config.blocks]
        self._default_rule = masks.causal if config.causal else masks.everything
        self._plain = _plain(config)
        # A block mask can stand for a mask: no block adds a bias or a sink, and FlexAttention takes the heads' size.
        self._flexible = _unbiased(config) and min(block.attention.head_dim for block in config.blocks) >= 16

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        memory: Memory | None = None,
        rule: masks.Rule | None = None,
    ) -> Tensor:
        """`hidden` (batch, length, width) → the same shape; the other arguments as in `Transformer.hidden`."""
        contexts = self.layer_contexts(hidden, positions, attention_mask, cache, rule)
        for block, context in zip(self.blocks, contexts, strict=True):
            hidden = block(hidden, context, memory)
        return hidden if self.norm is None else self.norm(hidden)

    def layer_contexts(
        self,
        hidden: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        rule: masks.Rule | None = None,
    ) -> list[Context]:
        """The context of each block, for running one at a time; arguments as in `forward`."""
        keys = positions if cache is None else cache.key_positions
        base = Context(positions, keys, cache=cache)
        shared = None if self.relative_bias is None else self.relative_bias(positions, keys)
        flexible = self._flexible and hidden.is_cuda and hidden.dtype != torch.float64
        trained = torch.is_grad_enabled() or isinstance(rule, masks.ForkedRanges)
        trained = trained and self._plain and cache is None and _has_kernel(self.config, hidden)
        visible: dict[configs.Pattern | None, masks.Mask | None] = {}
        contexts: dict[configs.Attention, Context] = {}
        for kind in dict.fromkeys(self._kinds):
            if kind.pattern not in visible:
                mask = None
                if trained:
                    mask = self._key_ranges(kind.pattern, positions.expand(len(hidden), -1), attention_mask, rule)
                if mask is None:
                    mask = self._mask(kind.pattern, base, len(hidden), attention_mask, rule, flexible)
                visible[kind.pattern] = mask
            turned, bias = None, shared
            match kind.position:
                case configs.Rope() as rope:
                    turned = rotation(rope, kind.head_dim, positions, hidden.dtype)
                case configs.Alibi():
                    slopes = alibi(kind.heads, distances(positions, keys), hidden.dtype)
                    bias = slopes if shared is None else slopes + shared
            contexts[kind] = replace(base, rotation=turned, mask=visible[kind.pattern], bias=bias)
        kinds = self._kinds[: len(self.blocks)]  # a stack may have been shortened
        return [replace(contexts[kind], layer=layer) for layer, kind in enumerate(kinds)]

    def shares_prefixes(self, like: Tensor) -> bool:
        """Whether `masks.shared_prefixes` has a kernel for hidden states of this dtype and device."""
        return self._plain and all(kind.pattern is None for kind in self._kinds) and _has_kernel(self.config, like)

    def _key_ranges(
        self,
        pattern: configs.Pattern | None,
        positions: Tensor,
        attention_mask: Tensor | None,
        rule: masks.Rule | None,
    ) -> KeyRanges | masks.ForkedRanges | None:
        """`_mask` as the range of keys that each query sees; None where they are not known to be one."""
        sparse = None if pattern is None or positions.shape[1] <= masks.reach(pattern) else pattern
        if isinstance(rule, masks.ForkedRanges):
            return rule if sparse is None and attention_mask is None else None
        if rule is None:  # the row is one document
            rule = masks.documents(torch.zeros_like(positions), self.config.causal)
        if not isinstance(rule, KeyRanges) or rule.first.shape != positions.shape:
            return None
        return masks.key_ranges(rule, sparse, positions, attention_mask)

    def _mask(
        self,
        pattern: configs.Pattern | None,
        context: Context,
        batch: int,
        attention_mask: Tensor | None,
        rule: masks.Rule | None,
        flexible: bool,
    ) -> masks.Mask | None:
        """Who may attend to whom in the blocks of one pattern; None where the blocks' own rule is all there is."""
        if isinstance(rule, masks.ForkedRanges):
            raise ValueError("a prefix is shared where `shares_prefixes` says so, without padding and patterns")
        queries, keys, cache = context.queries.expand(batch, -1), context.keys, context.cache
        length = queries.shape[1]
        sparse = None if pattern is None or keys.shape[1] <= masks.reach(pattern) else masks.pattern(pattern)
        allowed = rule or self._default_rule
        if cache is not None:
            if rule is None and sparse is None and cache.mask is None:
                return None
            allowed = allowed if sparse is None else masks.both(allowed, sparse)
            mask = masks.dense(allowed, batch, queries, keys)
            return mask if cache.mask is None else mask & cache.mask
        if rule is None and sparse is None and (attention_mask is None or not self.config.causal):
            return None if attention_mask is None else masks.padding(attention_mask)
        allowed = allowed if sparse is None else masks.both(allowed, masks.at(queries, sparse))
        if flexible and (rule is not None or sparse is not None):
            return masks.blockwise(allowed, batch, length, attention_mask, queries.device)
        indices = torch.arange(length, device=queries.device)[None]
        mask = masks.dense(allowed, batch, indices, indices)
        return mask if attention_mask is None else mask & masks.padding(attention_mask)


def _plain(config: configs.Stack) -> bool:
    """The scores are products of queries and keys, and nothing else."""
    return _unbiased(config) and all(block.attention.softcap is None for block in config.blocks)


def _unbiased(config: configs.Stack) -> bool:
    attentions = [block.attention for block in config.blocks]
    unbiased = all(isinstance(a.position, configs.Rope | None) and not a.sinks for a in attentions)
    return unbiased and config.relative_bias is None


def _has_kernel(config: configs.Stack, hidden: Tensor) -> bool:
    """True if attention in training has a kernel for all blocks."""
    return all(has_kernel(hidden, block.attention.head_dim) for block in config.blocks)
