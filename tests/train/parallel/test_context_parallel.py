"""Context parallelism: the devices' parts of each row together are the row, in losses and gradients."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh

from divided_cases import check_same, new_batch, new_model, objective_of, summed, take
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.prefix import PrefixLanguageModel
from lmworks.train.parallel.context import check_objective, divide_context, divide_sequence, places
from ranks import on_ranks


@given(devices=st.integers(1, 9), piece=st.integers(1, 7))
def test_each_place_is_on_one_device_and_each_sees_as_many(devices: int, piece: int) -> None:
    length = 2 * devices * piece
    parts = [places(length, devices, rank) for rank in range(devices)]
    assert torch.cat(parts).sort().values.tolist() == list(range(length))
    seen = {int((part + 1).sum()) for part in parts}  # by a causal mask
    assert len(seen) == 1
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


def test_a_length_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        places(36, 4, 0)


CASES: list[tuple[str, Objective[Any]]] = [
    *(
        (name, objective_of(name))
        for name in ("llama", "gpt2", "mistral", "alibi", "shaw", "gopher", "mixtral", "bert")
    ),
    ("sinks", CausalLanguageModel(apart=False)),
    ("relative bias of a layer", PrefixLanguageModel()),
    ("bert", MaskedLanguageModel(objective_of("bert").vocabulary, apart=False)),  # type: ignore[attr-defined]
]


def _equal_to_one_process() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("context",))
    group = mesh.get_group()
    for name, objective in CASES:
        check_objective(objective)
        examples = objective.examples(new_batch(), 0)
        expected = take(new_model(name), objective, examples)
        model = divide_context(new_model(name), mesh)
        taken = take(
            model, objective, divide_sequence(examples, mesh), group, whole=lambda _, gradient: summed(gradient, group)
        )
        check_same(taken, expected)


@pytest.mark.parametrize("devices", [2, 4])
def test_each_objective_has_the_losses_and_gradients_of_one_process(devices: int) -> None:
    on_ranks(devices, _equal_to_one_process)
