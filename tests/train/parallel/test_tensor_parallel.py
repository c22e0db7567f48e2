"""Tensor and sequence parallelism: every device's part together is the whole model, in its losses and gradients."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import UntypedStorage
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from communication_volume import CommunicationCounter
from divided_cases import (
    LENGTH,
    MODELS,
    VOCABULARY,
    check_same,
    held,
    new_batch,
    new_model,
    objective_of,
    take,
)
from kit.tables import for_each
from lmworks.model.config import ModelConfig
from lmworks.model.heads import VocabularyProjection
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
from lmworks.train.config import Recompute
from lmworks.train.losses import token_cross_entropy, token_log_probabilities
from lmworks.train.objectives.objective import select_rows
from lmworks.train.parallel.tensor_parallel import shard_tensors
from lmworks.train.parallel.vocabulary_parallel import DividedProjection
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.device_share import device_share
from lmworks.train.planning.layout import NUMBERS, Layout, Numbers
from lmworks.train.planning.memory import expected_memory
from ranks import on_ranks
from slow_cases import slow


def _equal_to_one_process(names: list[str], sequence: bool) -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    for name in names:
        objective = objective_of(name)
        examples = objective.examples(new_batch(), 0)
        expected = take(new_model(name), objective, examples)
        model = shard_tensors(new_model(name), mesh, sequence)
        check_same(take(model, objective, examples), expected)


ENCODER_DECODERS = [name for name, config in MODELS.items() if len(config.stacks) == 2]
FEWER_KEYS = ["llama", "qwen3", "mixtral"]  # than four devices


@pytest.mark.parametrize("sequence", [True, *slow(False)])
def test_each_model_has_the_losses_and_gradients_of_one_process(sequence: bool) -> None:
    """But for sequences of encoder–decoders, whose texts have any length."""
    on_ranks(2, _equal_to_one_process, [n for n in MODELS if not (sequence and n in ENCODER_DECODERS)], sequence)


@pytest.mark.parametrize("sequence", [True, *slow(False)])
def test_devices_share_fewer_key_heads(sequence: bool) -> None:
    on_ranks(4, _equal_to_one_process, [*FEWER_KEYS, "gpt2", "bert"], sequence)


def _in_single_precision() -> tuple[float, float]:
    """In which attention has a kernel of its own, for heads that are wide enough."""
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tensor",))
    losses = []
    for divide in (False, True):
        torch.manual_seed(0)
        model = Transformer(llama(VOCABULARY, 64, 2, 4, 2, 96, LENGTH))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        model = shard_tensors(model, mesh, sequence=True) if divide else model
        losses.append(float(objective_of("llama").losses(model, new_batch())["next_token"].sum.detach()))
    return losses[0], losses[1]


def test_masks_are_of_the_whole_sequence_in_single_precision_too() -> None:
    for one, divided in on_ranks(2, _in_single_precision):
        assert divided == pytest.approx(one, rel=1e-5)


def _held(names: list[str]) -> list[int]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    return [held(shard_tensors(new_model(name), mesh)) for name in names]


@for_each("devices", [2, 4])
def test_each_device_holds_what_the_plan_says(devices: int) -> None:
    names = list(MODELS) if devices == 2 else FEWER_KEYS
    expected = [device_share(MODELS[name], Layout(tensor=devices)).parameters for name in names]
    first, *_, last = on_ranks(devices, _held, names)
    assert first == expected
    assert all(0 < less <= most for less, most in zip(last, first, strict=True))  # the rest of the vocabulary


def _sent(sequence: bool, policy: Recompute) -> tuple[float, float]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    batch, objective = new_batch(), objective_of("llama")
    batch = replace(batch, mask=torch.ones_like(batch.mask))
    model = checkpoint_activations(shard_tensors(new_model("llama").float(), mesh, sequence), policy)
    with CommunicationCounter(least=0) as sent:
        loss = objective.losses(model, batch)["next_token"].sum
        loss.backward()
    norms = sum(w.numel() * 4 for name, w in model.named_parameters() if "norm" in name) if sequence else 0
    return sent.total, 2 * norms * (mesh.size() - 1) / mesh.size()


@for_each("policy", ["nothing", "blocks"])
@for_each("sequence", [False, True])
def test_each_device_sends_what_the_plan_says(sequence: bool, policy: Recompute) -> None:
    layout = Layout(tensor=2, sequence_parallel=sequence, sequences=3, length=LENGTH, recompute=policy)
    expected = communication_bytes(MODELS["llama"], layout, NUMBERS["float32"])["tensor"]
    for total, gradients_of_norms in on_ranks(2, _sent, sequence, policy):
        assert total == expected + gradients_of_norms


def _fsdp_beside_tensors(names: list[str], sequence: bool, policy: Recompute) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    data = mesh["data"]
    for name in names:
        objective, batch = objective_of(name), new_batch(rows=4)
        examples = objective.examples(batch, 0)
        expected = take(new_model(name), objective, examples)
        model = checkpoint_activations(shard_tensors(new_model(name), mesh["tensor"], sequence), policy)
        for block in blocks(model):
            fully_shard(block, mesh=data)
        fully_shard(model, mesh=data, reshard_after_forward=False)
        register_fsdp_forward_method(model, "hidden")
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        rank = data.get_local_rank()
        own = select_rows(examples, slice(2 * rank, 2 * rank + 2))
        check_same(take(model, objective, own, data.get_group()), expected)


@pytest.mark.parametrize(("sequence", "policy"), [(True, "blocks"), *slow((False, "selective"))])
def test_fsdp_divides_what_is_left(sequence: bool, policy: Recompute) -> None:
    """FSDP2 on another dimension of the mesh: its gradients are DTensors of both. Recomputing repeats collectives."""
    on_ranks(4, _fsdp_beside_tensors, ["llama", "gpt2", "mixtral", "bert"], sequence, policy)


def _refusals() -> None:
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tensor",))
    odd = llama(VOCABULARY, 12, 1, heads=3, kv_heads=3, hidden=24, context_length=LENGTH)
    with pytest.raises(ValueError, match="does not divide the 3 heads"):
        shard_tensors(Transformer(odd), mesh)
    odd = llama(VOCABULARY, 16, 1, heads=4, kv_heads=2, hidden=25, context_length=LENGTH)
    with pytest.raises(ValueError, match="does not divide the hidden width 25"):
        shard_tensors(Transformer(odd), mesh)
    adapted = new_model("llama")
    adapted.decoder.blocks[0].attention.query.more = torch.nn.Parameter(torch.zeros(1))  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"query\.more is an adapter's"):
        shard_tensors(adapted, mesh)
    model = shard_tensors(new_model("llama"), mesh, sequence=True)
    with pytest.raises(ValueError, match="use a multiple of 2"):
        model(torch.zeros(1, 5, dtype=torch.int64))


def _logits_and_loss() -> None:
    """Of chunks of a few targets, with smoothing, z-loss and caps; and the logits of a divided model."""
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tensor",))
    whole = new_model("gemma2")
    ids = new_batch().ids
    expected = whole(ids)
    torch.testing.assert_close(shard_tensors(new_model("gemma2"), mesh)(ids), expected, rtol=1e-10, atol=1e-12)
    generator = torch.Generator().manual_seed(0)
    features, table = (
        torch.randn(rows, 8, generator=generator, dtype=torch.float64).requires_grad_() for rows in (37, VOCABULARY)
    )
    bias = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(VOCABULARY, (37,), generator=generator)
    parts = [each.chunk(2)[mesh.get_local_rank()].detach().requires_grad_() for each in (table, bias)]
    for softcap in (None, 3.0):
        settings: Any = {"logits_at_a_time": 5 * 34 - 1}  # 4 rows of the first device's part, 5 of the second's
        projection = DividedProjection(parts[0], parts[1], softcap, VOCABULARY, mesh.get_group())
        log_p = token_log_probabilities(features, projection, targets, **settings)
        settings |= {"label_smoothing": 0.2, "z_loss": 0.01}
        whole_loss = token_cross_entropy(features, VocabularyProjection(table, bias, softcap), targets, **settings)
        loss = token_cross_entropy(features, projection, targets, **settings)
        torch.testing.assert_close(loss.sum, whole_loss.sum, rtol=1e-12, atol=0)
        torch.testing.assert_close(loss.nats, whole_loss.nats, rtol=1e-12, atol=0)
        whole_log_p = token_log_probabilities(features, VocabularyProjection(table, bias, softcap), targets)
        torch.testing.assert_close(log_p, whole_log_p, rtol=1e-12, atol=0)
        for ours, theirs in ((loss.sum, whole_loss.sum), (log_p.square().sum(), whole_log_p.square().sum())):
            of_features, *of_parts = torch.autograd.grad(ours, [features, *parts])
            of_whole, *of_all = torch.autograd.grad(theirs, [features, table, bias])
            torch.testing.assert_close(of_features, of_whole, rtol=1e-10, atol=1e-12)
            for of_part, of_table in zip(of_parts, of_all, strict=True):
                torch.testing.assert_close(of_part, of_table.chunk(2)[mesh.get_local_rank()], rtol=1e-10, atol=1e-12)


def test_what_cannot_be_divided_is_refused() -> None:
    on_ranks(2, _refusals)


def test_the_loss_over_a_divided_vocabulary_is_the_whole_ones() -> None:
    on_ranks(2, _logits_and_loss)


def _kept_by_a_layer(sequence: bool) -> int:
    """Bytes that autograd keeps of one layer more, in double precision."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    found = []
    for layers in (1, 2):
        model = shard_tensors(Transformer(_wide(layers)).double(), mesh, sequence)
        weights = {cast(DTensor, weight).to_local().data_ptr() for weight in model.parameters()}
        kept: dict[int, UntypedStorage] = {}  # which stay, so that no address is used again

        def keep(tensor: torch.Tensor, kept: dict[int, UntypedStorage] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.hidden(torch.zeros(2, 64, dtype=torch.int64))
        found.append(sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights))
    return found[1] - found[0]


def _wide(layers: int) -> ModelConfig:
    return llama(VOCABULARY, 64, layers, heads=4, kv_heads=2, hidden=96, context_length=64)


@for_each("sequence", [False, True])
def test_each_device_keeps_the_activations_that_the_plan_says(sequence: bool) -> None:
    """To 1 %: statistics of norms are float32 in the plan."""
    layout, numbers = Layout(tensor=2, sequence_parallel=sequence, sequences=2, length=64), Numbers(8, 8, 8)
    one, two = (expected_memory(_wide(layers), layout, numbers, norms="composed").parts for layers in (1, 2))
    expected = sum(two[part] - one[part] for part in one if part.startswith("activations"))
    assert on_ranks(2, _kept_by_a_layer, sequence) == pytest.approx([expected] * 2, rel=0.01)
