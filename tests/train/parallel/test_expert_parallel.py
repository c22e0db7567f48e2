"""Expert parallelism: the devices' experts together are the mixture, in losses and gradients."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from divided_cases import check_same, new_batch, new_model, objective_of, summed, take
from lmworks.train.objectives.objective import part_of, rows_of
from lmworks.train.parallel.expert import divide_experts
from ranks import on_ranks


def _equal_to_one_process(name: str) -> None:
    """Each device has rows of its own, as replicas have."""
    devices, rank = dist.get_world_size(), dist.get_rank()
    mesh = init_device_mesh("cpu", (devices,), mesh_dim_names=("expert",))
    group, objective = mesh.get_group(), objective_of(name)
    examples = objective.examples(new_batch(rows=5), 0)
    expected = take(new_model(name), objective, examples)
    rows = rows_of(examples)
    own = part_of(examples, slice(rows * rank // devices, rows * (rank + 1) // devices))
    model = divide_experts(new_model(name), mesh)
    taken = take(
        model,
        objective,
        own,
        group,
        lambda weight, gradient: gradient if _of_expert(weight) else summed(gradient, group),
    )
    owners = torch.tensor([weight in taken.gradients for weight in expected.gradients], dtype=torch.int64)
    assert summed(owners, group).tolist() == [1 if _of_expert(weight) else devices for weight in expected.gradients]
    check_same(taken, replace(expected, gradients={name: expected.gradients[name] for name in taken.gradients}))


def _of_expert(name: str) -> bool:
    return ".experts." in name


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("name", ["mixtral", "switch"])
def test_a_mixture_has_the_losses_and_gradients_of_one_process(name: str, devices: int) -> None:
    on_ranks(devices, _equal_to_one_process, name)
