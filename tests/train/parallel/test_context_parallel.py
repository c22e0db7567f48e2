"""Context parallelism: the devices' parts of each row together are the row, in losses and gradients."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from communication_volume import CommunicationCounter
from divided_cases import (
    LENGTH,
    MODELS,
    Taken,
    check_same,
    new_batch,
    new_model,
    objective_of,
    summed,
    take,
)
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.multi_token_prediction import MultiTokenPrediction
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.prefix import PrefixLanguageModel
from lmworks.train.parallel.context_parallel import check_objective, places, shard_context, shard_sequence
from lmworks.train.parallel.tensor_parallel import shard_tensors
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.layout import NUMBERS, Layout
from ranks import on_ranks
from slow_cases import slow


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


def take_over(mesh: DeviceMesh, model: Transformer, objective: Objective[Any], examples: Any) -> Taken:
    """Gradients are summed over the devices, as over replicas."""
    return take(model, objective, examples, mesh.get_group(), lambda _, gradient: summed(gradient, mesh.get_group()))


def _equal_to_one_process() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("context",))
    for name, objective in CASES:
        check_objective(objective)
        examples = objective.examples(new_batch(), 0)
        expected = take(new_model(name), objective, examples)
        model = shard_context(new_model(name), mesh)
        check_same(take_over(mesh, model, objective, shard_sequence(examples, mesh)), expected)


@pytest.mark.parametrize("devices", [2, *slow(4)])
def test_each_objective_has_the_losses_and_gradients_of_one_process(devices: int) -> None:
    on_ranks(devices, _equal_to_one_process)


def _sent() -> float:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("context",))
    model, objective = shard_context(new_model("llama").float(), mesh), objective_of("llama")
    with CommunicationCounter(least=0) as sent:
        objective.losses(model, shard_sequence(new_batch(), mesh))["next_token"].sum.backward()
    return sent.total


def test_each_device_sends_what_the_plan_says() -> None:
    layout = Layout(context=4, sequences=3, length=LENGTH)
    expected = communication_bytes(MODELS["llama"], layout, NUMBERS["float32"])["context"]
    assert on_ranks(4, _sent) == [expected] * 4


def _beside_tensors(sequence: bool) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("context", "tensor"))
    context = mesh["context"]
    for name in ("llama", "gpt2", "mistral", "bert", "mixtral"):
        objective = objective_of(name)
        examples = objective.examples(new_batch(), 0)
        expected = take(new_model(name), objective, examples)
        model = shard_context(shard_tensors(new_model(name), mesh["tensor"], sequence), context)
        check_same(take_over(context, model, objective, shard_sequence(examples, context)), expected)


@pytest.mark.parametrize("sequence", [True, *slow(False)])
def test_sequences_and_tensors_are_divided_together(sequence: bool) -> None:
    on_ranks(4, _beside_tensors, sequence)


def _refusals() -> None:
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("context",))
    with pytest.raises(ValueError, match="set context to 1, or no capacity"):
        decoder = MODELS["mixtral"].decoder
        assert decoder is not None
        block = decoder.blocks[0]
        block = replace(block, feed_forward=replace(block.feed_forward, capacity_factor=1.0))
        shard_context(Transformer(replace(MODELS["mixtral"], decoder=replace(decoder, blocks=(block,)))), mesh)
    with pytest.raises(ValueError, match="two sequences"):
        shard_context(new_model("t5"), mesh)
    with pytest.raises(TypeError, match="MultiTokenPrediction looks beyond"):
        check_objective(MultiTokenPrediction())
    with pytest.raises(ValueError, match="needs its positions, a rule"):
        shard_context(new_model("llama"), mesh)(torch.zeros(1, 4, dtype=torch.int64))


def test_what_cannot_be_divided_is_refused() -> None:
    on_ranks(2, _refusals)
