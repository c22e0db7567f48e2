"""ZeRO's second and third stages (Rajbhandari et al. 2020, sections 5.2 and 5.3) by PyTorch's FSDP2, which divides the
rows of each weight, gathers those of a block for as long as it runs, and reduce-scatters gradients after each part.

The divided weights are float32 and are what the optimizers change. What is gathered has the precision of the run, as
the model's weights have in a run of one process; gradients are summed in float32.
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from lmworks.model.transformer import Transformer
from lmworks.train.activation_checkpointing import blocks
from lmworks.train.parallel.ranks import Ranks


def shard_weights(model: Transformer, ranks: Ranks, dtype: torch.dtype) -> Transformer:
    """Divides the weights of `model`, in place, among the replicas, and those of experts that are divided already among
    the processes that have the same.

    With ZeRO 2 what was gathered for the forward stays until the backward, with 3 it is gathered for each. `dtype` is
    what the model computes in. Gradients are sums over the ranks.
    """
    policy = MixedPrecisionPolicy(None, torch.float32)
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    settings: dict[str, Any] = {"mesh": ranks.replica_mesh, "mp_policy": policy}
    reshard = ranks.config.zero == 3
    for block in blocks(model):
        if ranks.expert_mesh is not None:
            for name, module in block.named_modules():
                if name.split(".")[-2:-1] == ["experts"]:
                    copies = ranks.expert_mesh["copies"]
                    fully_shard(module, mesh=copies, mp_policy=policy, reshard_after_forward=reshard)
        fully_shard(block, reshard_after_forward=reshard, **settings)
    # The ends stay gathered from the forward to the backward: a tied table is what both begin with.
    fully_shard(model, reshard_after_forward=False, **settings)
    register_fsdp_forward_method(model, "hidden")  # what objectives call, besides the model itself
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    model.gathers_once = ranks.config.zero == 2  # type: ignore[assignment] - for `keep_gathered`
    return model


def release(model: nn.Module) -> None:
    """Let go of what is gathered, before divided weights are changed by other hands than a step's."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def keep_gathered(model: Transformer, keep: bool) -> None:
    """Whether the next backward leaves weights that ZeRO 2 divides gathered, for the next part of the step."""
    if isinstance(model, FSDPModule) and model.gathers_once:
        model.set_reshard_after_backward(not keep)
