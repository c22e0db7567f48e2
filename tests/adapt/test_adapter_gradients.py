"""An adapter's gradients in every way that its step is computed: low precision, compiled, activations recomputed."""

import pytest
import torch
from small_models import LLAMA, build, random_ids, random_lora

from lmworks.adapt import trainable_lora
from lmworks.train.activation_checkpointing import blocks, recompute
from lmworks.train.losses import token_cross_entropy


def gradients(dtype, policy="nothing", compiled=False):
    """By weight, of the mean loss of two rows."""
    model = recompute(trainable_lora(build(LLAMA), random_lora(LLAMA, 1)).train().to(dtype), policy)
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
