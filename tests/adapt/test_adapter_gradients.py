"""An adapter's gradients in every way that its step is computed: low precision, compiled, activations recomputed."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small_models import LLAMA, build, random_ids, random_lora

from lmworks.adapt import trainable_lora
from lmworks.adapt.lora_layers import LowRankLinear
from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
from lmworks.train.losses import token_cross_entropy


def gradients(dtype, policy="nothing", compiled=False):
    """By weight, of the mean loss of two rows."""
    model = checkpoint_activations(trainable_lora(build(LLAMA), random_lora(LLAMA, 1)).train().to(dtype), policy)
    for block in blocks(model) if compiled else ():
        block.compile()
    hidden, targets = model.hidden(random_ids(2, 48)).flatten(0, 1), random_ids(2, 48, seed=1).flatten()
    token_cross_entropy(hidden, model.head.projection_to_vocabulary(model.tokens), targets).sum.backward()
    return {name: weight.grad.double() for name, weight in model.named_parameters() if weight.requires_grad}


# A rounding is off by 2^-9 or 2^-24 at most, and some forty lie between a weight and its gradient.
@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 40 * 2**-9), (torch.float32, 40 * 2**-24)])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_they_are_those_of_float64(dtype, error, compiled):
    exact = gradients(torch.float64)
    for policy in ("nothing", "selective", "blocks"):
        found = gradients(dtype, policy, compiled)
        assert len(found) == 2 * 7 * 2
        for name, gradient in found.items():
            assert float((gradient - exact[name]).norm() / exact[name].norm()) < error, (name, policy)


def test_one_product_is_the_sum_of_two_rounded_once():
    """Gradients are autograd's. In bfloat16 a change of 1/1000, less than the distance of most outputs from their
    neighbours, moves their sum by what it should."""
    shapes = {"inputs": (3, 5, 24), "weight": (16, 24), "bias": (16,), "a": (4, 24), "b": (16, 4)}
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias, a, b = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes.values())
    learned = [tensor.requires_grad_() for tensor in (inputs, a, b)]
    expected = F.linear(inputs, weight, bias) + 0.7 * F.linear(F.linear(inputs, a), b)
    found = LowRankLinear.apply(inputs, weight, bias, a, b, 0.7)
    gradient = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    grads = [torch.autograd.grad(outputs, learned, gradient) for outputs in (expected, found)]
    torch.testing.assert_close((found, *grads[1]), (expected, *grads[0]), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        x, w, low_a = (torch.randn(s, generator=generator).bfloat16() for s in ((4096, 24), (16, 24), (4, 24)))
        low_b = torch.full((16, 4), 1e-3).bfloat16()
        moved = (LowRankLinear.apply(x, w, None, low_a, low_b, 1.0) - F.linear(x, w)).double()
        change = F.linear(F.linear(x.double(), low_a.double()), low_b.double())
        assert float((moved * change).sum() / change.square().sum()) == pytest.approx(1, abs=0.1)
