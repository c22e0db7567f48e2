"""Flash attention: exact attention, tile by tile, that never holds the n × n scores (Dao et al. 2022).

softmax(scores) value needs, for a row of scores, their maximum and the sum of their exponentials. Both can be kept up
to date while the keys come in tiles (online softmax, Milakov & Gimelshein 2018): when a tile raises the maximum, what
has been added up is shrunk by `exp(old maximum - new maximum)`. The backward pass would need the weights; instead of
keeping them, it computes each tile of scores again, and the logarithm of the row's sum, kept from the forward pass,
turns them into weights at once (Dao 2023). So the memory besides inputs, outputs and gradients is a few numbers per row
and a few tiles, O(n) instead of O(n²), for five products of tiles in the backward pass where there were four.

`tiled_attention` is the definition, in plain PyTorch, to be read. The kernels behind `F.scaled_dot_product_attention`
are the same algorithm with the tiles in a processor's fast memory. `trained_attention` is our own kernel for training
on the CPU (`lmworks/kernels/cpp/trained_attention.h`) as an operation that autograd and `torch.compile` know.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmworks.kernels import training_kernels
from lmworks.kernels.training_kernels import KeyRanges, as_projected
from lmworks.model.masks import ForkedRanges, Predicate, dense, everything

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


# ---------------------------------------------------------------------------------------------------------------------
# The kernel for training on the CPU


def trained_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    seen: KeyRanges,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """softmax(scale · query keyᵀ, of the seen keys) value: `query` (batch, heads, length, head_dim), `key` and `value`
    (batch, kv_heads, stored, head_dim), in bfloat16 or float32 → the shape of `query`. Differentiable, once.

    prefix   further keys and values (batch, kv_heads, P, head_dim), which every query sees.
    """
    # Autocast rounds what a projection gives, and not what a rotation made of it; to float16 too, which has no kernel.
    dtype = value.dtype if value.dtype in training_kernels.FORMAT_NUMBERS else torch.float32
    tensors = [tensor.to(dtype) for tensor in (query, key, value, *(prefix or ()))]
    found = _attend(*tensors, *seen, scale)[0] if prefix is None else _Joined.apply(*tensors, *seen, scale)
    return found.to(value.dtype)


def forked_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: ForkedRanges) -> Tensor:
    """`trained_attention` of one row, some of whose queries see a second range of its keys."""
    dtype = value.dtype if value.dtype in training_kernels.FORMAT_NUMBERS else torch.float32
    tensors = (tensor.to(dtype) for tensor in (query, key, value))
    return _Forked.apply(*tensors, *seen.own, seen.forks, *seen.shared, scale).to(value.dtype)  # type: ignore[union-attr]


class _Forked(torch.autograd.Function):
    """As `_Joined`, of some queries, and with a second range of the same keys."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, forks: Tensor, start: Tensor,
        end: Tensor, scale: float,
    ) -> Tensor:  # fmt: skip
        output, log_sum = _attend(query, key, value, first, last, scale)
        if len(forks):
            part, log = _attend(query[:, :, forks], key, value, start, end, scale)
            own, own_log = output[:, :, forks], log_sum[:, :, forks]
            log_sum[:, :, forks] = whole = torch.logaddexp(own_log, log)  # (1, heads, forks)
            parts = own * (own_log - whole).exp()[..., None] + part * (log - whole).exp()[..., None]
            output[:, :, forks] = parts.to(output.dtype)
        ctx.save_for_backward(query, key, value, first, last, forks, start, end, output, log_sum)
        ctx.scale = scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, first, last, forks, start, end, output, log_sum = ctx.saved_tensors
        (gradient,) = gradients
        found = _differentiate(query, key, value, output, log_sum, gradient, first, last, ctx.scale)
        if len(forks):
            some = (tensor[:, :, forks] for tensor in (output, log_sum, gradient))
            other = _differentiate(query[:, :, forks], key, value, *some, start, end, ctx.scale)
            found[0][:, :, forks] += other[0]
            found = found[0], found[1] + other[1], found[2] + other[2]
        return *found, None, None, None, None, None, None


class _Joined(torch.autograd.Function):
    """Attention to two pieces of keys, of which each is computed by itself: the logarithms of their sums weigh the two
    outputs, and those of the whole give the weights of either piece in the backward (Dao 2023, section 3.1)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, other_key: Tensor, other_value: Tensor, first: Tensor,
        last: Tensor, scale: float,
    ) -> Tensor:  # fmt: skip
        pieces = (key, value, first, last), (other_key, other_value, *_all_of(other_key, last))
        found = [_attend(query, *piece, scale) for piece in pieces]
        log_sum = torch.logaddexp(found[0][1], found[1][1])  # (batch, heads, length)
        output = as_projected(query)
        output.copy_(sum(part * (log - log_sum).exp()[..., None] for part, log in found))  # type: ignore[arg-type]
        ctx.save_for_backward(query, *pieces[0], *pieces[1], output, log_sum)
        ctx.scale = scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, first, last, other_key, other_value, start, end, output, log_sum = ctx.saved_tensors
        whole = output, log_sum, gradients[0]
        own = _differentiate(query, key, value, *whole, first, last, ctx.scale)
        other = _differentiate(query, other_key, other_value, *whole, start, end, ctx.scale)
        return own[0] + other[0], *own[1:], *other[1:], None, None, None


def _all_of(key: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(like), torch.full_like(like, key.shape[2] - 1)


@torch.library.custom_op("lmworks::trained_attention", mutates_args=())
def _attend(
    query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return training_kernels.attend(query, key, value, scale, KeyRanges(first, last))


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return as_projected(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("lmworks::trained_attention_backward", mutates_args=())
def _differentiate(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    log_sum: Tensor,
    output_gradient: Tensor,
    first: Tensor,
    last: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    seen = KeyRanges(first, last)
    return training_kernels.attend_backward(query, key, value, output, log_sum, output_gradient, scale, seen)


@_differentiate.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return as_projected(query), as_projected(key), as_projected(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.scale = scale


def _backward(ctx: Any, output_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, first, last, output, log_sum = ctx.saved_tensors
    found = _differentiate(query, key, value, output, log_sum, output_gradient, first, last, ctx.scale)
    return *found, None, None, None


_attend.register_autograd(_backward, setup_context=_keep)
