"""Activation (gradient) checkpointing (Chen et al. 2016): the backward computes again what the forward did not keep."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from lmworks.model.stack import Stack
from lmworks.model.transformer import Transformer
from lmworks.train.config import Recompute

# What is dear: matrix products and attention. All else is a small part of the time and most of the memory (Korthikanti
# et al. 2022, section 5, who recompute what is inside of attention). An adapter's thin products are cheap, and what
# they give is as large as what others give.
_MM, _THIN = torch.ops.aten.mm.default, 1 / 8  # of a matrix's longer side
_KEPT = {
    _MM,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.lmworks.trained_attention.default,  # as `model.flash_attention` registers it
}


def checkpoint_activations(model: Transformer, policy: Recompute) -> Transformer:
    """Changes how the blocks of `model` run while it is trained; the numbers stay the same, bit for bit. Returns it.

    The policy takes the place of an earlier one.
    """
    for block in blocks(model):
        forward = block.forward
        if isinstance(forward, partial) and forward.func is _run:
            forward = forward.args[0]
            block.forward = forward
        if policy != "nothing":
            block.forward = partial(_run, forward, policy == "selective")
    return model


def _run(forward: Any, selective: bool, *inputs: Any) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    if selective:
        contexts = partial(create_selective_checkpoint_contexts, _policy)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)  # type: ignore[return-value]
    return checkpoint(forward, *inputs, use_reentrant=False)  # type: ignore[return-value]


def _policy(context: Any, operation: Any, *inputs: Any, **settings: Any) -> CheckpointPolicy:
    thin = operation is _MM and min(inputs[1].shape) <= _THIN * max(inputs[1].shape)
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT and not thin else CheckpointPolicy.PREFER_RECOMPUTE


def blocks(model: Transformer) -> list[nn.Module]:
    """All blocks of a model: the encoder's, the decoder's, and those of a head that predicts further tokens."""
    return [block for module in model.modules() if isinstance(module, Stack) for block in module.blocks]
