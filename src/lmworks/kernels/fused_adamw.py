"""A step of AdamW in one pass over a weight, its moments and its gradient; `torch.optim.AdamW` is its definition.

A model in bfloat16 has masters in float32 (`lmworks.train.master_weights`): the gradient is read as it is, and the
master's rounding is written into the model's weight on the way.
"""

from ctypes import byref
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.kernels import c_structures
from lmworks.kernels.library import Library
from lmworks.kernels.training_kernels import FORMAT_NUMBERS, loaded


class Moments(NamedTuple):
    """The running means of the gradient and of its square, float32 of the weight's shape."""

    first: Tensor
    second: Tensor


class Settings(NamedTuple):
    """`torch.optim.AdamW`'s lr, betas, eps and weight_decay."""

    rate: float
    betas: tuple[float, float]
    epsilon: float
    decay: float


def update(
    weight: Tensor,
    moments: Moments,
    gradient: Tensor,
    rounded: Tensor | None,
    step: int,
    settings: Settings,
    factor: float = 1.0,
    kernels: Library | None = None,
) -> bool:
    """Step number `step`, from 1 on, with `factor` times the gradient, in place (Loshchilov & Hutter 2019,
    Algorithm 2). False, and nothing changed, where there is no kernel for these tensors.

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
