"""Kernels of training: attention with its backward, cross-entropy with its gradient, dequantised weights, and AdamW.

Their definitions are `tests/model/tiled_attention.py`, `lmworks.train.losses.cross_entropy` and `torch.optim.AdamW`.
Unlike inference they work on the model's own tensors, in bfloat16 or float32, and as many threads as PyTorch uses.
"""

from ctypes import byref, c_int64, c_void_p
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.kernels import c_structures, library
from lmworks.kernels.library import Library
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.weight_formats import FORMATS

MOST_HEAD_DIM = 512
FORMAT_NUMBERS = {torch.float32: FORMATS.index("float32"), torch.bfloat16: FORMATS.index("bfloat16")}


class KeyRanges(NamedTuple):
    """Query i of a row of the batch sees the keys `first[row, i]` to `last[row, i]`, both included; (batch, length)
    int32, contiguous."""

    first: Tensor
    last: Tensor

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query sees a key, for int64 numbers of rows, queries and keys that broadcast."""
        return (self.first[row, query] <= key) & (key <= self.last[row, query])


def loaded(kernels: Library | None = None) -> Library | None:
    """The library, whose calls take as many threads as PyTorch uses now; None where there is none."""
    chosen = kernels or library.load()
    return None if chosen is None else replace(chosen, threads=torch.get_num_threads())


def has_kernel(hidden: Tensor, head_dim: int) -> bool:
    """True if `attend` can be called for heads of that size, in the dtype and on the device of `hidden`."""
    fits = hidden.device.type == "cpu" and hidden.dtype in FORMAT_NUMBERS
    fits = fits and not torch._C._are_functorch_transforms_active()  # tangents and batches of them it does not know
    return fits and head_dim % 16 == 0 and head_dim <= MOST_HEAD_DIM and _is_there()


def _is_there() -> bool:
    """Not to be traced by `torch.compile`."""
    return library.load() is not None


# All that `torch.compiler.assume_constant_result` does; that decorator imports the compiler first, which takes 0.8 s.
_is_there.__dict__["_dynamo_marked_constant"] = True


def attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float, seen: KeyRanges | None, kernels: Library | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(scale · query keyᵀ, of the seen keys) value, (batch, heads, length, head_dim), in the memory order
    (batch, length, heads, head_dim); and the logarithms of the softmax's sums, (batch, heads, length) float32.

    `key` and `value` (batch, kv_heads, stored, head_dim). Without `seen`, each query sees its own place and the past.
    ValueError for shapes that do not go together, and keys that are not there.
    """
    query, key, value = (_readable(tensor) for tensor in (query, key, value))
    output, log_sum = as_projected(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    views = {"query": query, "key": key, "value": value, "output": output}
    _call(views, log_sum, scale, seen, backward=False, kernels=kernels)
    return output, log_sum


def attend_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    log_sum: Tensor,
    output_gradient: Tensor,
    scale: float,
    seen: KeyRanges | None,
    kernels: Library | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `attend`'s query, key and value, from what it gave and the gradient of its output."""
    names = ("query", "key", "value", "output", "output_gradient")
    given = (query, key, value, output, output_gradient)
    views = {name: _readable(tensor) for name, tensor in zip(names, given, strict=True)}
    gradients = {f"{name}_gradient": as_projected(views[name]) for name in ("query", "key", "value")}
    _call({**views, **gradients}, log_sum.contiguous(), scale, seen, backward=True, kernels=kernels)
    return gradients["query_gradient"], gradients["key_gradient"], gradients["value_gradient"]


class SoftmaxLoss(NamedTuple):
    """For each row of logits, (rows,) float32: log Z, the target's -log p, and the mean logit."""

    log_z: Tensor
    nats: Tensor
    means: Tensor


def softmax_loss(
    logits: Tensor, targets: Tensor, smoothing: float, z_loss: float, kernels: Library | None = None
) -> SoftmaxLoss | None:
    """Turns `logits` (rows, vocabulary) into the gradient of their cross-entropy, in place; None, and nothing changed,
    where there is no kernel for them. `targets` (rows,) int64.

    ValueError for a target outside the vocabulary.
    """
    chosen = loaded(kernels) if logits.device.type == "cpu" and logits.dtype in FORMAT_NUMBERS else None
    if chosen is None or not logits.is_contiguous():
        return None
    rows, count = logits.shape
    if rows and not 0 <= int(targets.min()) <= int(targets.max()) < count:
        raise ValueError(f"a target is outside the vocabulary of {count}")
    targets = targets.contiguous()
    result = SoftmaxLoss(*torch.empty(3, rows).unbind())
    addresses = (tensor.data_ptr() for tensor in result)
    shape = (rows, count, FORMAT_NUMBERS[logits.dtype])
    chosen.call("softmax_loss", logits.data_ptr(), targets.data_ptr(), *shape, smoothing, z_loss, *addresses)
    return result


def dequantise(matrix: PackedMatrix, dtype: torch.dtype, kernels: Library | None = None) -> Tensor:
    """(rows, columns), rounded from float32 to `dtype`; `matrix` may be a `part` of one."""
    values = matrix.values
    chosen = loaded(kernels) if values.device.type == "cpu" and dtype in FORMAT_NUMBERS else None
    if chosen is None or matrix.format not in ("int8", "int4"):
        return matrix.dequantise().to(dtype)
    out = torch.empty(matrix.rows, matrix.columns, dtype=dtype)
    shape = c_int64(values.stride(0)), c_int64(matrix.rows), c_int64(matrix.columns)
    formats = FORMATS.index(matrix.format), FORMAT_NUMBERS[dtype]
    chosen.call("dequantise", c_void_p(values.data_ptr()), *shape, *formats, c_void_p(out.data_ptr()))
    return out


class Moments(NamedTuple):
    """The running means of the gradient and of its square, float32 of the weight's shape."""

    first: Tensor
    second: Tensor


class AdamWSettings(NamedTuple):
    """`torch.optim.AdamW`'s lr, betas, eps and weight_decay."""

    rate: float
    betas: tuple[float, float]
    epsilon: float
    decay: float


def adamw_step(
    weight: Tensor,
    moments: Moments,
    gradient: Tensor,
    rounded: Tensor | None,
    step: int,
    settings: AdamWSettings,
    factor: float = 1.0,
    kernels: Library | None = None,
) -> bool:
    """Step number `step`, from 1 on, with `factor` times the gradient, in place (Loshchilov & Hutter 2019,
    Algorithm 2), in one pass over all tensors. False, and nothing changed, where there is no kernel for them.

    All have one shape: `weight`, the moments float32; `gradient` float32 or bfloat16; `rounded` bfloat16, which becomes
    the weight's rounding, or None.
    """
    tensors = [weight, *moments, gradient, *([] if rounded is None else [rounded])]
    dtypes = [torch.float32] * 3 + [gradient.dtype] + [torch.bfloat16] * (rounded is not None)
    fits = all(
        tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and tensor.shape == weight.shape
        and tensor.dtype == dtype
        for tensor, dtype in zip(tensors, dtypes, strict=True)
    )
    chosen = loaded(kernels) if fits and gradient.dtype in FORMAT_NUMBERS else None
    if chosen is None:
        return False
    beta1, beta2 = settings.betas
    problem = c_structures.AdamWStep(
        weight=weight.data_ptr(),
        first_moment=moments.first.data_ptr(),
        second_moment=moments.second.data_ptr(),
        gradient=gradient.data_ptr(),
        rounded=None if rounded is None else rounded.data_ptr(),
        count=weight.numel(),
        gradient_format=FORMAT_NUMBERS[gradient.dtype],
        factor=factor,
        beta1=beta1,
        beta2=beta2,
        new_in_first=1 - beta1,
        new_in_second=1 - beta2,
        kept=1 - settings.rate * settings.decay,
        rate=settings.rate / (1 - beta1**step),
        deviation_scale=(1 - beta2**step) ** -0.5,
        epsilon=settings.epsilon,
    )
    chosen.call("adamw", byref(problem))
    return True


def _call(
    views: dict[str, Tensor],
    log_sum: Tensor,
    scale: float,
    seen: KeyRanges | None,
    backward: bool,
    kernels: Library | None,
) -> None:
    chosen = loaded(kernels)
    assert chosen is not None, "`has_kernel` says whether there is a kernel"
    query, key = views["query"], views["key"]
    if views["value"].shape != key.shape or query.shape[1] % key.shape[1] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"queries of {tuple(query.shape)} do not go with keys of {tuple(key.shape)} and values of "
            f"{tuple(views['value'].shape)}"
        )
    if seen is None and query.shape[2] != key.shape[2]:
        raise ValueError(f"{query.shape[2]} queries and {key.shape[2]} keys: say which are seen")
    problem = c_structures.TrainedAttention(
        batch=query.shape[0],
        heads=query.shape[1],
        kv_heads=key.shape[1],
        length=query.shape[2],
        stored=key.shape[2],
        head_dim=query.shape[3],
        scale=scale,
        format=FORMAT_NUMBERS[query.dtype],
        log_sum=log_sum.data_ptr(),
    )
    for name, tensor in views.items():
        setattr(problem, name, c_structures.HeadsView(tensor.data_ptr(), *tensor.stride()[:3]))
    if seen is not None:
        _check(seen, query, key)
        problem.first, problem.last = seen.first.data_ptr(), seen.last.data_ptr()
    chosen.call("attend_trained", byref(problem), backward)


def _check(seen: KeyRanges, query: Tensor, key: Tensor) -> None:
    """ValueError for runs that are not this query's, or that the keys do not have: nobody checks in the kernel."""
    shape, stored = (query.shape[0], query.shape[2]), key.shape[2]
    for name, indices in seen._asdict().items():
        if indices.shape != shape or indices.dtype != torch.int32 or not indices.is_contiguous():
            raise ValueError(
                f"the {name} seen keys are contiguous int32 of shape {shape}, not {indices.dtype} of "
                f"{tuple(indices.shape)}"
            )
    if bool((seen.first > seen.last).any()):
        raise ValueError("a query sees no key: its first seen key stands after its last")
    if places_outside := int((seen.first < 0).sum() + (seen.last >= stored).sum()):
        raise ValueError(f"{places_outside} queries see keys outside of the {stored} that there are")


def _readable(tensor: Tensor) -> Tensor:
    """With rows that are contiguous, and lie at multiples of 4 bytes."""
    detached = tensor.detach()
    aligned = all(stride % 2 == 0 for stride in detached.stride()[:3]) and detached.data_ptr() % 4 == 0
    return detached if detached.stride(-1) == 1 and aligned else detached.contiguous()


def as_projected(heads: Tensor) -> Tensor:
    """Memory for (batch, heads, length, head_dim) in the order of the projections, (batch, length, heads, head_dim)."""
    batch, count, length, width = heads.shape
    return heads.new_empty(batch, length, count, width).transpose(1, 2)
