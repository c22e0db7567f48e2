"""Expert parallelism: the devices' experts together are the mixture, in losses and gradients."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import init_device_mesh

from communication_volume import CommunicationCounter
from divided_cases import (
    LENGTH,
    MODELS,
    Taken,
    check_same,
    held,
    new_batch,
    new_model,
    objective_of,
    summed,
    take,
)
from kit.tables import for_each
from lmworks.model.mixture_of_experts import Router
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import count_rows, select_rows
from lmworks.train.parallel.context_parallel import shard_context, shard_sequence
from lmworks.train.parallel.expert_parallel import shard_experts
from lmworks.train.parallel.tensor_parallel import shard_tensors
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.device_share import device_share
from lmworks.train.planning.layout import NUMBERS, Layout
from ranks import on_ranks


def _equal_to_one_process(name: str) -> None:
    """Each device has rows of its own, as replicas have."""
    devices, rank = dist.get_world_size(), dist.get_rank()
    mesh = init_device_mesh("cpu", (devices,), mesh_dim_names=("expert",))
    group, objective = mesh.get_group(), objective_of(name)
    examples = objective.examples(new_batch(rows=5), 0)
    expected = take(new_model(name), objective, examples)
    rows = count_rows(examples)
    own = select_rows(examples, slice(rows * rank // devices, rows * (rank + 1) // devices))
    model = shard_experts(new_model(name), mesh)
    names = _check(model, own, group, None, expected)
    owners = torch.tensor([weight in names for weight in expected.gradients], dtype=torch.int64)
    assert summed(owners, group).tolist() == [1 if _of_expert(weight) else devices for weight in expected.gradients]


def _check(
    model: Transformer, own: Any, everyone: ProcessGroup, copies: ProcessGroup | None, expected: Taken
) -> set[str]:
    """The sums of gradients are the whole ones: an expert's over the ranks that hold copies of it, any other's over all
    that see other tokens. Gives the names of the weights on this rank."""

    def whole(name: str, gradient: Tensor) -> Tensor:
        group = copies if _of_expert(name) else everyone
        return gradient if group is None else summed(gradient, group)

    name = next(name for name, config in MODELS.items() if config == model.config)
    taken = take(model, objective_of(name), own, everyone, whole)
    check_same(taken, replace(expected, gradients={name: expected.gradients[name] for name in taken.gradients}))
    return set(taken.gradients)


def _of_expert(name: str) -> bool:
    return ".experts." in name


@for_each("devices", [2, 4])
@for_each("name", ["mixtral", "switch"])
def test_a_mixture_has_the_losses_and_gradients_of_one_process(name: str, devices: int) -> None:
    on_ranks(devices, _equal_to_one_process, name)


def _sent() -> float:
    """With a router that sends each token on to the next two experts in turn, and so as many to each."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("expert",))
    model, objective = shard_experts(new_model("mixtral").float(), mesh), objective_of("mixtral")

    def in_turn(router: nn.Module, inputs: object, logits: Tensor) -> Tensor:
        length, experts = logits.shape[1:]
        turns = torch.arange(length)[:, None] + torch.tensor([0, 1])
        return logits * 0 + F.one_hot(turns % experts, experts).sum(dim=1).to(logits.dtype)

    for module in model.modules():
        if isinstance(module, Router):
            module.register_forward_hook(in_turn)
    with CommunicationCounter(least=0) as sent:
        objective.losses(model, new_batch())["next_token"].sum.backward()
    return sent.total


@for_each("devices", [2, 4])
def test_each_device_sends_what_the_plan_says(devices: int) -> None:
    layout = Layout(data=devices, expert=devices, sequences=3, length=LENGTH)
    expected = communication_bytes(MODELS["mixtral"], layout, NUMBERS["float32"])["expert"]
    assert on_ranks(devices, _sent) == [expected] * devices


def _held() -> tuple[int, int]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("expert",))
    model = shard_experts(new_model("mixtral"), mesh)
    return held(model, lambda name: not _of_expert(name)), held(model, _of_expert)


def test_each_device_holds_what_the_plan_says() -> None:
    plan = device_share(MODELS["mixtral"], Layout(data=2, expert=2))
    assert on_ranks(2, _held) == [(plan.dense, plan.experts)] * 2


def _beside_tensors_and_contexts() -> None:
    """Experts among the devices of a context, beside tensors; and among two of four replicas, so that two have each."""
    objective, batch = objective_of("mixtral"), new_batch(rows=4)
    expected = take(new_model("mixtral"), objective, batch)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("context", "tensor"))
    context = mesh["context"]
    model = shard_experts(shard_tensors(new_model("mixtral"), mesh["tensor"], sequence=True), context)
    _check(shard_context(model, context), shard_sequence(batch, context), context.get_group(), None, expected)

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "expert"))
    own = batch[dist.get_rank() : dist.get_rank() + 1]
    model = shard_experts(new_model("mixtral"), mesh["expert"])
    everyone = dist.group.WORLD
    assert everyone is not None
    _check(model, own, everyone, mesh["copies"].get_group(), expected)


def test_experts_are_divided_together_with_all_else() -> None:
    on_ranks(4, _beside_tensors_and_contexts)


def _refusals() -> None:
    mesh = init_device_mesh("cpu", (3,), mesh_dim_names=("expert",))
    with pytest.raises(ValueError, match="does not divide the 4 experts"):
        shard_experts(new_model("mixtral"), mesh)
    with pytest.raises(ValueError, match="no mixture of experts"):
        shard_experts(new_model("llama"), mesh)


def test_what_cannot_be_divided_is_refused() -> None:
    on_ranks(3, _refusals)
