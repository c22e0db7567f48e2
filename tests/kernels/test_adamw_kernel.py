"""The one pass of AdamW against `torch.optim.AdamW`."""

from typing import NamedTuple

import torch
from torch import Tensor

from kit.tables import for_each
from lmworks.kernels import training_kernels
from lmworks.kernels.library import Library

RATE, BETAS, EPSILON, DECAY = SETTINGS = training_kernels.AdamWSettings(0.01, (0.9, 0.95), 1e-8, 0.1)
FACTOR = 0.3


class Stepped(NamedTuple):
    weight: Tensor
    first_moment: Tensor
    second_moment: Tensor
    rounded: Tensor


def _beginning(weight: Tensor) -> Stepped:
    return Stepped(weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight), weight.bfloat16())


def _step(kernels: Library, stepped: Stepped, gradient: Tensor, step: int, rounded: bool = True) -> bool:
    weight, first, second, half = stepped
    moments = training_kernels.Moments(first, second)
    return training_kernels.adamw_step(
        weight, moments, gradient, half if rounded else None, step, SETTINGS, FACTOR, kernels
    )


def _gradients(count: int, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """Of many sizes, as those of a model: from 1e-9 to 1e3."""
    generator = torch.Generator().manual_seed(1)
    sizes = 10 ** torch.empty(count).uniform_(-9, 3, generator=generator)
    return [(torch.randn(count, generator=generator) * sizes).to(dtype) for _ in range(steps)]


@for_each("dtype", [torch.float32, torch.bfloat16])
@for_each("count", [1, 15, 16, 37, 8192, 20_000])
def test_steps_are_torchs(kernels: Library, count: int, dtype: torch.dtype) -> None:
    """In float64, to some roundings of float32 in each of five steps."""
    weight = torch.randn(count, generator=torch.Generator().manual_seed(0))
    ours, theirs = _beginning(weight), weight.double().requires_grad_()
    optimizer = torch.optim.AdamW([theirs], RATE, BETAS, EPSILON, DECAY)
    for number, gradient in enumerate(_gradients(count, dtype, steps=5)):
        assert _step(kernels, ours, gradient, number + 1)
        theirs.grad = gradient.double() * FACTOR
        optimizer.step()
        assert torch.equal(ours.rounded, ours.weight.bfloat16())
    state = optimizer.state[theirs]
    # A weight moves by about RATE a step, so that its own last place and the step's are what may differ.
    torch.testing.assert_close(ours.weight.double(), theirs.detach(), rtol=5e-7, atol=1e-7)
    # What the first moment is a part of: its summands may cancel.
    typical = state["exp_avg_sq"].sqrt()
    torch.testing.assert_close(ours.first_moment.double() / typical, state["exp_avg"] / typical, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.second_moment.double(), state["exp_avg_sq"], rtol=1e-6, atol=0)


@for_each("beta", [0.999, 0.9999999, 0.99999999])
def test_moments_of_long_memory_keep_what_is_new(kernels: Library, beta: float) -> None:
    """1 - beta in float32 would be another number, or 0."""
    settings = training_kernels.AdamWSettings(RATE, (beta, beta), EPSILON, 0.0)
    stepped = _beginning(torch.zeros(20))
    gradient = torch.linspace(0.5, 2, 20)
    for number in range(3):
        moments = training_kernels.Moments(stepped.first_moment, stepped.second_moment)
        assert training_kernels.adamw_step(stepped.weight, moments, gradient, None, number + 1, settings, 1.0, kernels)
    # Each step moves by the rate, whatever the gradient: the moments are those of a constant.
    torch.testing.assert_close(stepped.weight, torch.full((20,), -3 * RATE), rtol=1e-5, atol=0)


def test_a_weight_has_the_same_bits_wherever_it_lies(kernels: Library) -> None:
    """So that a weight whose rows several processes update is that of one process."""
    weight = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    gradients = _gradients(20_000, torch.bfloat16, steps=2)
    whole, parts = _beginning(weight), _beginning(weight)
    for number, gradient in enumerate(gradients):
        assert _step(kernels, whole, gradient, number + 1)
        for start, stop in ((0, 5), (5, 9_011), (9_011, 20_000)):
            part = Stepped(*(tensor[start:stop] for tensor in parts))
            assert _step(kernels, part, gradient[start:stop], number + 1)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole, parts, strict=True))


def test_nothing_is_rounded_where_nothing_asks(kernels: Library) -> None:
    stepped = _beginning(torch.ones(40))
    assert _step(kernels, stepped, torch.ones(40), 1, rounded=False)
    assert torch.equal(stepped.rounded, torch.ones(40).bfloat16())
    assert not torch.equal(stepped.weight, torch.ones(40))


def test_what_it_does_not_know_it_leaves(kernels: Library) -> None:
    """Another dtype, and memory with gaps."""
    stepped = _beginning(torch.ones(4, 4))
    assert not _step(kernels, stepped, torch.ones(4, 4, dtype=torch.float16), 1)
    assert not _step(kernels, stepped, torch.ones(4, 8)[:, ::2], 1)
    assert not _step(kernels, Stepped(stepped.weight, *(each.T for each in stepped[1:])), torch.ones(4, 4).T, 1)
    assert torch.equal(stepped.weight, torch.ones(4, 4))
