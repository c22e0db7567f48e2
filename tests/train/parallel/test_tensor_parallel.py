"""Tensor and sequence parallelism: every device's part together is the whole model, in its losses and gradients."""

import pytest
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from divided_cases import MODELS, check_same, new_batch, new_model, objective_of, take
from lmworks.train.parallel.tensor import divide_tensors
from ranks import on_ranks


def _equal_to_one_process(names: list[str], sequence: bool) -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    for name in names:
        objective = objective_of(name)
        examples = objective.examples(new_batch(), 0)
        expected = take(new_model(name), objective, examples)
        model = divide_tensors(new_model(name), mesh, sequence)
        check_same(take(model, objective, examples), expected)


ENCODER_DECODERS = [name for name, config in MODELS.items() if len(config.stacks) == 2]
OTHERS = [name for name in MODELS if name not in ENCODER_DECODERS]


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("sequence", [False, True])
def test_each_model_has_the_losses_and_gradients_of_one_process(devices: int, sequence: bool) -> None:
    on_ranks(devices, _equal_to_one_process, OTHERS if sequence else [*OTHERS, *ENCODER_DECODERS], sequence)
