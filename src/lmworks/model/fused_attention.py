"""Attention in training on the CPU, as an operation that autograd and `torch.compile` know.

The algorithm is that of `flash_attention.py`; the kernel is `lmworks/kernels/cpp/trained_attention.h`.
"""

from typing import Any

import torch
from torch import Tensor

from lmworks.kernels import training_kernels
from lmworks.kernels.training_kernels import KeyRanges, as_projected


def trained_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, seen: KeyRanges) -> Tensor:
    """softmax(scale · query keyᵀ, of the seen keys) value: `query` (batch, heads, length, head_dim), `key` and `value`
    (batch, kv_heads, stored, head_dim), in bfloat16 or float32 → the shape of `query`. Differentiable, once."""
    # Autocast rounds what a projection gives, and not what a rotation made of it; to float16 too, which has no kernel.
    dtype = value.dtype if value.dtype in training_kernels.FORMAT_NUMBERS else torch.float32
    found = _attend(query.to(dtype), key.to(dtype), value.to(dtype), seen.first, seen.last, scale)[0]
    return found.to(value.dtype)


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
