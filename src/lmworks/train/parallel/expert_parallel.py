"""Expert parallelism (Lepikhin et al. 2021, section 3.2): the experts of a mixture divided among devices.

Each device has some of the experts, whole. A token is sent to the devices of the experts that were chosen for it, and
what these make of it is sent back: two all-to-alls in the forward, and two for the gradients. The router is on every
device, and what it chooses, who is dropped and how outputs are weighted stays as it is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from lmworks.model.mixture_of_experts import MixtureOfExperts
from lmworks.model.transformer import Transformer
from lmworks.train.parallel.collectives import all_to_all, exchange
from lmworks.train.parallel.module_override import override_methods


def shard_experts(model: Transformer, mesh: DeviceMesh) -> Transformer:
    """Leaves this device of the 1-D `mesh` its share of each mixture's experts, in place; returns the model.

    Device r has the experts r · experts / devices and following, under their numbers: `experts.5.up.weight` is one name
    on the one device that has it. After a backward the gradient of an expert is of the tokens of all devices of `mesh`,
    that of any other weight is of this device's tokens alone.

    ValueError for a model without a mixture, or with experts that the devices do not divide.
    """
    mixtures = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    if not mixtures:
        raise ValueError("there is no mixture of experts in this model: set expert to 1")
    for mixture in mixtures:
        experts = mixture.config.experts
        if experts % mesh.size():
            raise ValueError(f"expert {mesh.size()} does not divide the {experts} experts: use a divisor of them")
        share = experts // mesh.size()
        for number in range(experts):
            if number // share != mesh.get_local_rank():
                mixture.experts[number] = None  # type: ignore[assignment]
        override_methods(mixture, _ExpertParallelMixture, expert_group=mesh.get_group())
    return model


class _ExpertParallelMixture:
    """A mixture that sends tokens to the devices of their experts, and gets them back."""

    expert_group: ProcessGroup
    experts: nn.ModuleList

    def run(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """`MixtureOfExperts.run`, on this device's pieces (count, width), one for each expert there is."""
        devices = self.expert_group.size()
        share = len(pieces) // devices
        sizes = torch.tensor([len(piece) for piece in pieces], device=pieces[0].device)  # (experts,)
        even = [share] * devices
        # (devices, share): tokens that come from each device for each of this device's experts
        arriving = all_to_all(sizes, self.expert_group, even, even).view(devices, share)
        sent, received = sizes.view(devices, share).sum(dim=1).tolist(), arriving.sum(dim=1).tolist()
        tokens = exchange(torch.cat(list(pieces)), self.expert_group, sent, received)  # (arrived, width)
        # They come by device and expert; all of an expert's are put together, and back.
        order = torch.arange(share, device=sizes.device).repeat(devices).repeat_interleave(arriving.flatten())
        order = order.argsort(stable=True)
        local_experts = [expert for expert in self.experts if expert is not None]
        by_expert = tokens[order].split(arriving.sum(dim=0).tolist())
        # An expert without tokens runs too: its gradient is zero and not absent, on whatever device its copies are.
        made = torch.cat([expert(piece) for expert, piece in zip(local_experts, by_expert, strict=True)])
        return [exchange(made[order.argsort()], self.expert_group, received, sent)]
