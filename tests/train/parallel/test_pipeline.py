"""Pipelines: the devices of one together have the losses and gradients of one process, and hold and send what is
planned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from divided_cases import LENGTH, MODELS, new_batch, objective_of
from lmworks.model import config as configs
from lmworks.model.presets import t5
from lmworks.model.transformer import Transformer
from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
from lmworks.train.losses import reported
from lmworks.train.objectives.contrastive import Contrastive
from lmworks.train.objectives.objective import Objective, count_rows, select_rows
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.context_parallel import shard_context, shard_sequence
from lmworks.train.parallel.expert_parallel import shard_experts
from lmworks.train.parallel.fsdp import shard_weights
from lmworks.train.parallel.pipeline import (
    PipelineLosses,
    PipelineRank,
    pipeline_gradients,
    pipeline_losses,
    sum_shared,
)
from lmworks.train.parallel.pipeline_split import shared_weights, split
from lmworks.train.parallel.ranks import join
from lmworks.train.parallel.tensor_parallel import shard_tensors
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.device_share import device_share
from lmworks.train.planning.layout import Layout, Numbers, pieces_in_flight
from ranks import on_ranks
from slow_cases import slow


@dataclass(frozen=True)
class Case:
    """`micro_batches` of two rows each, but for the last, which has one."""

    name: str
    layout: ParallelConfig
    micro_batches: int
    layers: int = 4
    recompute: bool = False
    compile: bool = False
    frozen: tuple[str, ...] = ()
    empty: tuple[int, ...] = ()  # micro-batches without a target
    dtype: torch.dtype = torch.float64


def config_of(name: str, layers: int) -> configs.ModelConfig:
    """The small model of that name, with more layers."""
    if name == "relative bias of a stack":
        block = replace(MODELS["llama"].stacks[0].blocks[0])
        block = replace(block, attention=replace(block.attention, position=None))
        stack = configs.Stack((block,) * layers, True, block.norm, relative_bias=configs.RelativeBias(8, 16))
        return replace(MODELS["llama"], decoder=stack)
    config = MODELS[name]
    (stack,) = config.stacks
    deep = replace(stack, blocks=stack.blocks * (layers // len(stack.blocks)))
    return replace(config, decoder=deep) if config.encoder is None else replace(config, encoder=deep)


def model_of(case: Case) -> Transformer:
    model = Transformer(config_of(case.name, case.layers)).to(case.dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
            weight.requires_grad_(not name.startswith(case.frozen) if case.frozen else True)
    return model


def examples_of(case: Case) -> tuple[Objective[Any], list[Any]]:
    objective = objective_of(case.name)
    batch = new_batch(2 * case.micro_batches - 1)
    for number in case.empty:
        batch.mask[2 * number : 2 * number + 2] = False
    examples = objective.examples(batch, 0)
    starts = range(0, count_rows(examples), 2)
    return objective, [select_rows(examples, slice(start, start + 2)) for start in starts]


def counts_of(objective: Objective[Any], parts: Sequence[Any]) -> dict[str, int]:
    every = [objective.counts(part) for part in parts]
    return {name: sum(counts[name] for counts in every) for name in every[0]}


def one_process(case: Case) -> tuple[dict[tuple[str, str], float], dict[str, Tensor]]:
    """Sums of losses and metrics, and gradients, part after part."""
    objective, parts = examples_of(case)
    model, counts = model_of(case), counts_of(objective, parts)
    sums: dict[tuple[str, str], Any] = {}
    for part in parts:
        losses = objective.losses(model, part)
        sum(loss.sum / max(counts[name], 1) for name, loss in losses.items()).backward()  # type: ignore[union-attr]
        for key, value in reported(losses).items():
            sums[key] = sums.get(key, 0.0) + value
    return {key: float(value) for key, value in sums.items()}, {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


@contextmanager
def counted_sends() -> Iterator[list[int]]:
    """Bytes of each message that this process sends."""
    sent, real = [], dist.batch_isend_irecv

    def exchange(operations: list[dist.P2POp]) -> Any:
        sent.extend(each.tensor.nbytes for each in operations if each.op is dist.isend)
        return real(operations)

    with mock.patch.object(dist, "batch_isend_irecv", exchange):
        yield sent


def take(
    case: Case, place: PipelineRank, model: Transformer, parts: Sequence[Any], counts: dict[str, int], idle: int = 0
) -> PipelineLosses:
    """Gradients in the model's weights."""
    passed = pipeline_gradients(model, place, objective_of(case.name), parts, counts, idle=idle)
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    sum_shared(model.config, place, gradients)
    return passed


def _equal_to_one_process(cases: Sequence[Case]) -> None:
    group = dist.group.WORLD
    assert group is not None
    for case in cases:
        losses, gradients = one_process(case)
        objective, parts = examples_of(case)
        place = PipelineRank(case.layout, group, case.dtype)
        model = split(model_of(case), case.layout, place.rank)
        if case.recompute:
            checkpoint_activations(model, "blocks")
        if case.compile:
            for block in blocks(model):
                block.compile(backend="aot_eager")
        with counted_sends() as sent:
            passed = take(case, place, model, parts, counts_of(objective, parts))
        shared = shared_weights(model.config, case.layout.pipeline)
        assert passed.sums == losses, case
        for name, weight in model.named_parameters():
            if name in shared:  # whose uses are summed in another order
                largest = float(gradients[name].abs().max())
                torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-10, atol=1e-13 * largest)
            elif not case.compile:
                assert (weight.grad is None) == (name not in gradients), (case, name)
                assert weight.grad is None or torch.equal(weight.grad, gradients[name]), (case, name)
            else:
                torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-10, atol=1e-13)
        _as_planned(case, place, model, passed, sent)
        _everything_is_held(model, shared, group)


def _as_planned(case: Case, place: PipelineRank, model: Transformer, passed: PipelineLosses, sent: list[int]) -> None:
    """What is held, kept and sent."""
    layout = Layout(**asdict(case.layout), sequences=2, micro_batches=case.micro_batches, length=LENGTH)
    held = device_share(model.config, layout, place.rank).parameters
    assert sum(weight.numel() for weight in model.parameters()) == held
    assert passed.in_flight == pieces_in_flight(layout, place.rank)
    # A small table that all share is exchanged as well; of what is frozen, no gradient is sent.
    if case.name != "relative bias of a stack" and not case.frozen:
        _sent_as_planned(layout, place, model.config, sent)


def _sent_as_planned(layout: Layout, place: PipelineRank, config: configs.ModelConfig, sent: list[int]) -> None:
    size = place.dtype.itemsize
    planned = communication_bytes(config, layout, Numbers(size, size, size), place.rank)["pipeline"]
    messages = 2 * layout.chunks - (place.rank in (0, place.last))  # of each micro-batch; the last one has a row less
    row = LENGTH * config.embedding.width * size / (layout.tensor if layout.sequence_parallel else 1)
    assert sum(sent) == planned - messages * row


def _everything_is_held(model: Transformer, shared: dict[str, list[int]], group: dist.ProcessGroup) -> None:
    """Each weight by one device, or by those that are said to share it, under its name in the whole model."""
    every: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(every, [name for name, _ in model.named_parameters()], group=group)
    for name, _ in Transformer(model.config).named_parameters():
        holders = [rank for rank, names in enumerate(every) if name in names]
        assert holders == shared[name] if name in shared else len(holders) == 1, name
    assert sum(map(len, every)) == len({name for names in every for name in names}) + sum(
        len(holders) - 1 for holders in shared.values()
    )


def pipeline(devices: int, chunks: int = 1, schedule: Any = "1f1b") -> ParallelConfig:
    return ParallelConfig(pipeline=devices, chunks=chunks, schedule=schedule)


TWO = [
    *(Case(name, pipeline(2), 3) for name in ("llama", "gpt2", "bert", "multi-token", "spanbert")),
    Case("relative bias of a stack", pipeline(2), 2),
    *(Case(name, pipeline(2, schedule="gpipe"), 4) for name in ("llama", "gpt2", "bert")),
    *(Case(name, pipeline(2, chunks=2), 4) for name in ("gemma2", "gpt2", "bert", "mixtral")),
    Case("gpt2", pipeline(2), 1),
    Case("llama", pipeline(2), 3, dtype=torch.bfloat16),
    Case("llama", pipeline(2, chunks=2), 4, layers=6, recompute=True),
    Case("llama", pipeline(2, chunks=2), 2, frozen=("embedding", "decoder.blocks.0.")),
    Case("llama", pipeline(2, chunks=2), 4, empty=(1,)),
    Case("gpt2", pipeline(2), 2, empty=(0, 1)),
]
FOUR = [
    Case("llama", pipeline(4), 2),
    Case("gpt2", pipeline(4), 6),
    Case("llama", pipeline(4, schedule="gpipe"), 5, layers=6),
    Case("gpt2", pipeline(4, chunks=2), 8, layers=10),
    Case("relative bias of a stack", pipeline(4, chunks=2), 4, layers=8),
]
MORE = [
    *(Case(name, pipeline(4), count) for name, count in (("llama", 6), ("gpt2", 2), ("bert", 2), ("bert", 6))),
    *(Case(name, pipeline(4, schedule="gpipe"), 5, layers=6) for name in ("gpt2", "bert")),
    *(Case(name, pipeline(4, chunks=2), 8, layers=10) for name in ("llama", "bert")),
]


COMPILED = [Case("llama", pipeline(2, chunks=2), 2, compile=True)]
ALL = [(2, TWO), (4, FOUR), *slow((4, MORE), (2, COMPILED))]


@pytest.mark.parametrize(("devices", "cases"), ALL)
def test_losses_and_gradients_are_those_of_one_process(devices: int, cases: list[Case]) -> None:
    """Bit for bit, as each device does what one process does, in its order. What is held, kept and sent is planned."""
    on_ranks(devices, _equal_to_one_process, cases)


def _losses_alone(cases: Sequence[Case]) -> None:
    group = dist.group.WORLD
    assert group is not None
    for case in cases:
        losses, _ = one_process(case)
        objective, parts = examples_of(case)
        place = PipelineRank(case.layout, group, torch.float64)
        model = split(model_of(case), case.layout, place.rank)
        passed = pipeline_losses(model, place, objective, parts)
        assert passed.sums == losses and passed.counts == counts_of(objective, parts)
        assert passed.in_flight == 0


def test_a_model_is_evaluated_without_gradients_on_any_number_of_micro_batches() -> None:
    on_ranks(2, _losses_alone, [Case("gpt2", pipeline(2, chunks=2), 3), Case("spanbert", pipeline(2), 1)])


def _check(
    case: Case, passed: PipelineLosses, model: Transformer, over: dist.ProcessGroup | None, rounding: float
) -> None:
    """Losses and gradients, made whole, are those of one process; `over` those who saw other tokens."""
    losses, expected = one_process(case)
    for key, value in passed.sums.items():
        total = torch.tensor(value)
        if over is not None:
            dist.all_reduce(total, group=over)
        torch.testing.assert_close(float(total), losses[key], rtol=1e-6, atol=0.0)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, weight in model.named_parameters():
        gradient = weight.grad
        assert gradient is not None
        if isinstance(gradient, DTensor):
            gradient = gradient.full_tensor()
        elif over is not None and ".experts." not in name:
            dist.all_reduce(gradient, group=over)
        torch.testing.assert_close(gradient, expected[name], rtol=rounding, atol=rounding * largest)


def _with_replicas(zero: Any) -> None:
    """The second replica has one part, and shows it again, as often as the first one has parts."""
    for chunks in (1, 2):
        ranks = join(ParallelConfig(pipeline=2, chunks=chunks, data=2, zero=zero))
        case = Case("gpt2", ranks.config, 3, layers=8)
        objective, parts = examples_of(case)
        place = PipelineRank(ranks.config, ranks.along("pipeline").get_group(), torch.float64)
        model = split(model_of(case), ranks.config, place.rank)
        if zero:
            model = shard_weights(model, ranks, torch.float64)
        data = ranks.along("data")
        second = data.get_local_rank()
        mine = [parts[2], parts[2]] if second else parts[:2]
        passed = take(case, place, model, mine, counts_of(objective, parts), idle=second)
        _check(case, passed, model, data.get_group(), 1e-6 if zero else 1e-12)  # FSDP sums in float32


@pytest.mark.parametrize("zero", [0, 3, *slow(2)])
def test_replicas_of_a_pipeline_have_the_gradients_of_one_process(zero: int) -> None:
    on_ranks(4, _with_replicas, zero)


def _with_divided_tensors(sequence: bool) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", "tensor"))
    for name, layout in (("gpt2", pipeline(2)), ("llama", pipeline(2, chunks=2)), ("bert", pipeline(2))):
        layout = replace(layout, tensor=2, sequence_parallel=sequence)
        case = Case(name, layout, 4)
        objective, parts = examples_of(case)
        place = PipelineRank(layout, mesh["pipeline"].get_group(), torch.float64)
        model = shard_tensors(split(model_of(case), layout, place.rank), mesh["tensor"], sequence)
        with counted_sends() as sent:
            passed = take(case, place, model, parts, counts_of(objective, parts))
        _check(case, passed, model, None, 1e-11)
        if name == "llama":  # the others' tied tables are not divided evenly
            whole = Layout(**asdict(layout), sequences=2, micro_batches=4, length=LENGTH)
            _sent_as_planned(whole, place, model.config, sent)


@pytest.mark.parametrize("sequence", [True, *slow(False)])
def test_a_pipeline_of_divided_tensors_has_the_gradients_of_one_process(sequence: bool) -> None:
    on_ranks(4, _with_divided_tensors, sequence)


def _with_divided_sequences_and_experts() -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", "others"))
    others, layout = mesh["others"], pipeline(2, chunks=2)
    for case in (Case("llama", layout, 4), Case("mixtral", layout, 4)):
        objective, parts = examples_of(case)
        place = PipelineRank(layout, mesh["pipeline"].get_group(), torch.float64)
        model = split(model_of(case), layout, place.rank)
        if case.name == "llama":
            model = shard_context(model, others)
            mine = [shard_sequence(part, others) for part in parts]
        else:
            model = shard_experts(model, others)
            mine = parts[others.get_local_rank() :: 2]
        passed = take(case, place, model, mine, counts_of(objective, parts))
        _check(case, passed, model, others.get_group(), 1e-11)


def test_a_pipeline_of_divided_sequences_or_experts_has_the_gradients_of_one_process() -> None:
    on_ranks(4, _with_divided_sequences_and_experts)


def _with_other_examples() -> None:
    case, group = Case("llama", pipeline(2), 2 + dist.get_rank()), dist.group.WORLD
    assert group is not None
    objective, parts = examples_of(case)
    place = PipelineRank(case.layout, group, torch.float64)
    with pytest.raises(ValueError, match="elsewhere 2 to 3"):
        pipeline_gradients(split(model_of(case), case.layout, place.rank), place, objective, parts, {"next_token": 9})


def test_devices_with_other_examples_do_not_wait_for_each_other() -> None:
    on_ranks(2, _with_other_examples)


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="an encoder and a decoder"):
        split(Transformer(t5(67, 16, 4, 4, 24, head_dim=8)), pipeline(2), 0)
    with pytest.raises(ValueError, match="4 layers do not fill 4 devices of 2 chunks"):
        split(model_of(Case("llama", pipeline(4), 1)), pipeline(4, chunks=2), 0)
    place: Any = PipelineRank(pipeline(2), None, torch.float64)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Contrastive does not read its losses .* set pipeline to 1"):
        pipeline_gradients(model_of(Case("llama", pipeline(2), 1)), place, Contrastive(), [], {})
