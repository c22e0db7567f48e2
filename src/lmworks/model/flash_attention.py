"""Flash attention in training on the CPU: exact attention that never holds the n × n scores (Dao et al. 2022).

softmax(scores) value needs, for a row of scores, their maximum and the sum of their exponentials. Both can be kept up
to date while the keys come in tiles (online softmax, Milakov & Gimelshein 2018): when a tile raises the maximum, what
has been added up is shrunk by `exp(old maximum - new maximum)`. The backward pass would need the weights; instead of
keeping them, it computes each tile of scores again, and the logarithm of the row's sum, kept from the forward pass,
turns them into weights at once (Dao 2023). So the memory besides inputs, outputs and gradients is a few numbers per row
and a few tiles, O(n) instead of O(n²), for five products of tiles in the backward pass where there were four.

The kernels behind `F.scaled_dot_product_attention` are this algorithm. Here is our own for training on the CPU
(`lmworks/kernels/cpp/trained_attention.h`), as an operation that autograd and `torch.compile` know.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmworks.kernels import training_kernels
from lmworks.kernels.training_kernels import KeyRanges, as_projected
from lmworks.model.masks import ForkedRanges


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
    dtype = value.dtype
    query, key, value, *further = _in_kernel_format(query, key, value, *(prefix or ()))
    if not further:
        return _attend(query, key, value, *seen, scale)[0].to(dtype)
    whole = KeyRanges(torch.zeros_like(seen.last), torch.full_like(seen.last, further[0].shape[2] - 1))
    return _Joined.apply(query, key, value, *seen, *further, *whole, None, scale).to(dtype)  # type: ignore[union-attr]


def forked_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: ForkedRanges) -> Tensor:
    """`trained_attention` of one row, some of whose queries see a second range of its keys."""
    dtype = value.dtype
    query, key, value = _in_kernel_format(query, key, value)
    if not len(seen.forks):
        return _attend(query, key, value, *seen.own_keys, scale)[0].to(dtype)
    return _Joined.apply(query, key, value, *seen.own_keys, key, value, *seen.shared_keys, seen.forks, scale).to(dtype)  # type: ignore[union-attr]


class _Joined(torch.autograd.Function):
    """Attention to two pieces of keys, of which each is computed by itself: the logarithms of their sums weigh the two
    outputs, and those of the whole give the weights of either piece in the backward (Dao 2023, section 3.1). The second
    piece is seen, from `start` to `end`, by the `queries` at these places, (n,) int64, or by all of them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, first: Tensor, last: Tensor,
        other_key: Tensor, other_value: Tensor, start: Tensor, end: Tensor, queries: Tensor | None, scale: float,
    ) -> Tensor:  # fmt: skip
        rows = slice(None) if queries is None else queries
        output, log_sum = _attend(query, key, value, first, last, scale)
        other_output, other_log = _attend(query[:, :, rows], other_key, other_value, start, end, scale)
        log = log_sum[:, :, rows]
        whole = torch.logaddexp(log, other_log)  # (batch, heads, queries)
        joined = (
            output[:, :, rows] * (log - whole).exp()[..., None] + other_output * (other_log - whole).exp()[..., None]
        )
        output, log_sum = output.clone(), log_sum.clone()  # selective checkpointing keeps those of the kernel
        output[:, :, rows], log_sum[:, :, rows] = joined.to(output.dtype), whole
        ctx.save_for_backward(query, key, value, first, last, other_key, other_value, start, end, output, log_sum)
        ctx.rows, ctx.scale = rows, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, first, last, other_key, other_value, start, end, output, log_sum = ctx.saved_tensors
        whole = output, log_sum, output_gradients[0]
        gradients = _differentiate(query, key, value, *whole, first, last, ctx.scale)
        of_rows = (tensor[:, :, ctx.rows] for tensor in whole)
        other_gradients = _differentiate(query[:, :, ctx.rows], other_key, other_value, *of_rows, start, end, ctx.scale)
        gradients[0][:, :, ctx.rows] += other_gradients[0]
        return *gradients, None, None, *other_gradients[1:], None, None, None, None


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
def _(query: Tensor, key: Tensor, value: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return as_projected(query), as_projected(key), as_projected(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.scale = scale


def _backward(ctx: Any, output_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, first, last, output, log_sum = ctx.saved_tensors
    gradients = _differentiate(query, key, value, output, log_sum, output_gradient, first, last, ctx.scale)
    return *gradients, None, None, None


_attend.register_autograd(_backward, setup_context=_keep)


def _in_kernel_format(*tensors: Tensor) -> list[Tensor]:
    """In the dtype of the value, the third of them: autocast rounds what a projection gives, and not what a rotation
    made of it; to float16 too, which has no kernel."""
    dtype = tensors[2].dtype if tensors[2].dtype in training_kernels.FORMAT_NUMBERS else torch.float32
    return [tensor.to(dtype) for tensor in tensors]
