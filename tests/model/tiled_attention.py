"""Flash attention in PyTorch, the definition of the kernels (Dao et al. 2022, `docs/attention.md`)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmworks.model.masks import Predicate, dense, everything

Tile = tuple[slice, slice, Tensor]  # its queries, its keys, and who may attend, (batch or 1, 1, 1, queries, keys) bool


def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    rule: Predicate = everything,
    query_tile: int = 128,
    key_tile: int = 128,
) -> Tensor:
    """`query` (batch, heads, length, head_dim), `key` and `value` (batch, kv_heads, stored, head_dim) → the shape of
    `query`. Differentiable, once.

    `rule` (see `masks.py`) says who may attend to whom, such as `masks.causal`; every query must see a key. A tile in
    which no one may attend is skipped. Sums are kept in float32, or float64 for float64 inputs.
    """
    groups = query.unflatten(1, (key.shape[1], -1))  # (batch, kv_heads, group, length, head_dim)
    shared_key, shared_value = key[:, :, None], value[:, :, None]  # (batch, kv_heads, 1, stored, head_dim)
    output = _Tiled.apply(groups, shared_key, shared_value, scale, rule, query_tile, key_tile)
    return output.flatten(1, 2)


class _Tiled(torch.autograd.Function):
    """The heads of a group stand next to each other, in a dimension where their key and value have size 1."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, rule: Predicate, *tile: int
    ) -> Tensor:
        """Algorithm 1. `total` is the paper's l, of exponentials less the row's `maximum`, its m."""
        wide = torch.promote_types(query.dtype, torch.float32)
        output = torch.zeros_like(query, dtype=wide)  # (batch, kv_heads, group, length, head_dim)
        total = output.new_zeros(*query.shape[:-1], 1)
        # The lowest finite number: with -inf, a row that sees nothing of its first tile would compute -inf - -inf.
        maximum = torch.full_like(total, torch.finfo(wide).min)
        for rows, columns, allowed in _tiles(query, key, rule, *tile):
            scores = _scores(query[..., rows, :], key[..., columns, :], scale, allowed)
            highest = torch.maximum(maximum[..., rows, :], scores.amax(dim=-1, keepdim=True))
            weights = (scores - highest).exp()
            shrink = (maximum[..., rows, :] - highest).exp()
            total[..., rows, :] = shrink * total[..., rows, :] + weights.sum(dim=-1, keepdim=True)
            output[..., rows, :] = shrink * output[..., rows, :] + weights @ value[..., columns, :].to(wide)
            maximum[..., rows, :] = highest
        output = output.div_(total).to(query.dtype)
        ctx.save_for_backward(query, key, value, output, maximum + total.log())
        ctx.settings = scale, rule, tile
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Algorithm 4. `constant` is the paper's D, which a row's softmax subtracts from its gradients."""
        query, key, value, output, log_sum = ctx.saved_tensors
        scale, rule, tile = ctx.settings
        wide = log_sum.dtype
        output_gradient = gradients[0].to(wide)
        constant = (output_gradient * output).sum(dim=-1, keepdim=True)  # (batch, kv_heads, group, length, 1)
        query_gradient, key_gradient, value_gradient = (torch.zeros_like(x, dtype=wide) for x in (query, key, value))
        for rows, columns, allowed in _tiles(query, key, rule, *tile):
            query_part, key_part = query[..., rows, :].to(wide), key[..., columns, :].to(wide)
            weights = (_scores(query_part, key_part, scale, allowed) - log_sum[..., rows, :]).exp()
            upstream = output_gradient[..., rows, :]  # (batch, kv_heads, group, queries, head_dim)
            weights_gradient = upstream @ value[..., columns, :].to(wide).mT
            scores_gradient = scale * weights * (weights_gradient - constant[..., rows, :])
            query_gradient[..., rows, :] += scores_gradient @ key_part
            # A group shares its key and value, so their gradients are summed over it.
            key_gradient[..., columns, :] += (scores_gradient.mT @ query_part).sum(dim=2, keepdim=True)
            value_gradient[..., columns, :] += (weights.mT @ upstream).sum(dim=2, keepdim=True)
        found = (query_gradient, key_gradient, value_gradient)
        return *(gradient.to(query.dtype) for gradient in found), None, None, None, None


def _tiles(query: Tensor, key: Tensor, rule: Predicate, query_tile: int, key_tile: int) -> Iterator[Tile]:
    """The tiles of the length × stored square in which someone may attend."""
    queries = torch.arange(query.shape[-2], device=query.device)[None]
    keys = torch.arange(key.shape[-2], device=key.device)[None]
    for top in range(0, queries.shape[1], query_tile):
        for left in range(0, keys.shape[1], key_tile):
            rows, columns = slice(top, top + query_tile), slice(left, left + key_tile)
            allowed = dense(rule, query.shape[0], queries[:, rows], keys[:, columns])
            if allowed.any():
                yield rows, columns, allowed[:, :, None]


def _scores(query: Tensor, key: Tensor, scale: float, allowed: Tensor) -> Tensor:
    """A tile of scaled scores, (batch, kv_heads, group, queries, keys), at least float32."""
    wide = torch.promote_types(query.dtype, torch.float32)
    return (query.to(wide) @ key.to(wide).mT * scale).masked_fill(~allowed, float("-inf"))
