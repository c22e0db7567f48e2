"""ZeRO's second and third stages (Rajbhandari et al. 2020, sections 5.2 and 5.3) by PyTorch's FSDP2, which divides the
rows of each weight, gathers those of a block for as long as it runs, and reduce-scatters gradients after each part.

The divided weights are float32 and are what the optimizers change. What is gathered has the precision of the run, as
the model's weights have in a run of one process; gradients are summed in float32.
"""

from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from lmworks.model.transformer import Transformer
from lmworks.train.recomputing import blocks


def divide_weights(model: Transformer, mesh: DeviceMesh, zero: int, dtype: torch.dtype) -> Transformer:
    """Divides the weights of `model`, in place, among the ranks of the one-dimensional `mesh`.

    `zero` 2 keeps what was gathered from the forward to the backward, 3 gathers it for each. `dtype` is what the model
    computes in. Gradients are sums over the ranks.
    """
    policy = MixedPrecisionPolicy(None, torch.float32)
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    settings: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    for block in blocks(model):
        fully_shard(block, reshard_after_forward=zero == 3, **settings)
    # The ends stay gathered from the forward to the backward: a tied table is what both begin with.
    fully_shard(model, reshard_after_forward=False, **settings)
    register_fsdp_forward_method(model, "hidden")  # what objectives call, besides the model itself
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def keep_gathered(model: Transformer, keep: bool) -> None:
    """Whether the next backward leaves the weights gathered, for the next part of the step (ZeRO 2)."""
    if isinstance(model, FSDPModule):
        model.set_reshard_after_backward(not keep)
