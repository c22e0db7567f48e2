"""Runs a pipeline: the actions of one device, and the messages between them (`pipeline_schedule.py`).

`torch.distributed.pipelining` is not used: it fixes shapes at the first step and the number of micro-batches for good,
and its loss is one number of one output. Here a micro-batch is whatever examples an objective makes, the last one of a
step may be smaller, every device has them all, so that positions and masks are never sent, and the objective returns
sums of several losses, to be divided by the counts of the whole step.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.distributed.tensor import DTensor

from lmworks.model import config as configs
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss, reported
from lmworks.train.objectives.objective import Objective, OnHiddenStates, to_device
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.fsdp import keep_gathered
from lmworks.train.parallel.pipeline_schedule import Action, Message, Step, forward_only, schedules, steps
from lmworks.train.parallel.pipeline_split import one_chunk, shared_weights


@dataclass(frozen=True)
class PipelineRank:
    """This process in a pipeline.

    parallel  pipeline, chunks and schedule; and whether tensor devices divide the sequence, and how many
    group     the processes of one pipeline, first device first
    dtype     of hidden states: what the blocks compute in
    device    of this process
    """

    parallel: ParallelConfig
    group: dist.ProcessGroup
    dtype: torch.dtype
    device: torch.device | str = "cpu"

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def last(self) -> int:
        return self.parallel.pipeline - 1


@dataclass(frozen=True)
class PipelineLosses:
    """sums       (loss, metric) → its sum over all micro-batches, as `losses.reported` has it: the same on every device
    counts     how many targets each has
    in_flight  the most micro-batches that this device kept activations of at a time, in units of all its layers
    """

    sums: dict[tuple[str, str], float]
    counts: dict[str, int]
    in_flight: float


def pipeline_gradients(
    model: Transformer,
    pipeline_rank: PipelineRank,
    objective: Objective,
    micro_batches: Sequence[Any],
    counts: Mapping[str, int],
    scale: float = 1.0,
    accumulate: Callable[[], None] = lambda: None,
    idle: int = 0,
) -> PipelineLosses:
    """Adds to the gradients of this device's weights those of Σ (a loss's sum / its `counts`) · `scale` over all
    micro-batches. `sum_shared` is to follow.

    model          as `pipeline_split.split` left it
    micro_batches  examples, the same on every device of the pipeline
    counts         over which means are taken: those of all replicas
    accumulate     called after each backward
    idle           so many of the last micro-batches add nothing: they are there for what all replicas do together

    ValueError for an objective that cannot be divided, or a number of micro-batches that chunks cannot take.
    """
    orders = schedules(pipeline_rank.parallel, len(micro_batches))
    device = _Device(model, pipeline_rank, check_pipelined(objective), micro_batches, counts, scale, accumulate, idle)
    return device.run(steps(orders, pipeline_rank.rank))


@torch.no_grad()
def pipeline_losses(
    model: Transformer, pipeline_rank: PipelineRank, objective: Objective, micro_batches: Sequence[Any]
) -> PipelineLosses:
    """The losses of any number of micro-batches, without gradients; arguments as in `pipeline_gradients`."""
    order = forward_only(pipeline_rank.parallel.pipeline, pipeline_rank.parallel.chunks, len(micro_batches))
    device = _Device(model, pipeline_rank, check_pipelined(objective), micro_batches)
    return device.run(steps([order] * pipeline_rank.parallel.pipeline, pipeline_rank.rank))


def check_pipelined(objective: Objective) -> OnHiddenStates:
    """The objective, if a pipeline can run it; else ValueError."""
    if not objective.reads_hidden_states:
        raise ValueError(
            f"{type(objective).__name__} does not read its losses off the hidden states of one forward, as a pipeline "
            "needs: set pipeline to 1"
        )
    return cast(OnHiddenStates, objective)


def sum_shared(config: configs.ModelConfig, pipeline_rank: PipelineRank, gradients: Mapping[str, Tensor]) -> None:
    """Sums the gradients of weights that several devices hold, in place, to the same bits on each; once, after the last
    micro-batch. `gradients` are those of this device's weights, by name."""
    for name, holders in shared_weights(config, pipeline_rank.parallel.pipeline).items():
        # A frozen weight has no gradient on any device.
        if pipeline_rank.rank not in holders or name not in gradients:
            continue
        gradient = gradients[name]
        local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        sent = local.contiguous()
        gradients_of = {rank: sent if rank == pipeline_rank.rank else torch.empty_like(sent) for rank in holders}
        operations = []
        for rank in holders:
            if rank != pipeline_rank.rank:
                operations.append(dist.P2POp(dist.isend, sent, group=pipeline_rank.group, group_peer=rank))
                operations.append(
                    dist.P2POp(dist.irecv, gradients_of[rank], group=pipeline_rank.group, group_peer=rank)
                )
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        local.copy_(sum((gradients_of[rank] for rank in holders[1:]), gradients_of[holders[0]]))


@dataclass(frozen=True, slots=True)
class _Kept:
    """Activations saved for a backward: the hidden states that arrived, whose gradient is sent back, and its root. Of
    hidden states that were sent on, the graph alone is kept."""

    arrived: Tensor | None
    root: Tensor | GradientEdge | None


@dataclass(eq=False)
class _Device:
    """One device in one step: see `pipeline_gradients`."""

    model: Transformer
    place: PipelineRank
    objective: OnHiddenStates
    micro_batches: Sequence[Any]
    counts: Mapping[str, int] = field(default_factory=dict)
    scale: float = 1.0
    accumulate: Callable[[], None] = lambda: None
    idle: int = 0

    def __post_init__(self) -> None:
        self.counting = len(self.micro_batches) - self.idle
        self.arriving: dict[Action, tuple[Tensor, dist.Work]] = {}
        self.leaving: list[tuple[Tensor, dist.Work]] = []  # whose memory must not go yet
        self.kept: dict[tuple[int, int], _Kept] = {}  # by micro-batch and chunk
        self.most_kept = 0
        self.targets = Counter[str]()
        for examples in self.micro_batches[: self.counting]:
            self.targets.update(self.objective.counts(examples))
        self.sums: dict[tuple[str, str], Tensor] = {}

    def run(self, order: list[Step]) -> PipelineLosses:
        self.meet()
        for step in order:
            made = None
            if step.action is not None:
                made = self.forward(step.action) if step.action.kind == "forward" else self.backward(step.action)
            self.exchange(step, made)
        for _, work in self.leaving:
            work.wait()
        sums = [{key: float(value) for key, value in self.sums.items()}]  # the last device alone knows the metrics
        dist.broadcast_object_list(
            sums, group=self.place.group, group_src=self.place.last, device=torch.device(self.place.device)
        )
        return PipelineLosses(sums[0], dict(self.targets), self.most_kept / self.place.parallel.chunks)

    def meet(self) -> None:
        """ValueError where the devices have not the same number of micro-batches: they would wait forever. NCCL wants
        all of a group at its first call, besides."""
        count = len(self.micro_batches)
        both = torch.tensor([count, -count], device=self.place.device)
        dist.all_reduce(both, dist.ReduceOp.MAX, group=self.place.group)
        if both.tolist() != [count, -count]:
            raise ValueError(
                f"the devices of a pipeline take the same micro-batches: here are {count}, elsewhere "
                f"{-int(both[1])} to {int(both[0])}. Make their loaders with the same rank and world_size"
            )

    def forward(self, action: Action) -> Tensor | None:
        """Hidden states (batch, length, width) for the next piece; None behind the last one."""
        _, micro_batch, chunk = action
        examples = to_device(self.micro_batches[micro_batch], self.place.device)
        arrived = None if self.is_first(chunk) else self.take(action).requires_grad_(torch.is_grad_enabled())
        with one_chunk(self.model, chunk, arrived):
            hidden = self.objective.hidden(self.model, examples)
        if hidden.dtype != self.place.dtype:  # the receiver's buffer is of another size
            raise TypeError(f"the blocks compute in {hidden.dtype}, and `PipelineRank` says {self.place.dtype}")
        if self.is_last(chunk):
            losses = self.objective.losses_of(self.model, hidden, examples)
            root = self.score(losses, counting=micro_batch < self.counting)
        else:
            root = get_gradient_edge(hidden) if hidden.requires_grad else None
        if torch.is_grad_enabled():
            self.kept[micro_batch, chunk] = _Kept(arrived, root)
            self.most_kept = max(self.most_kept, len(self.kept))
        return None if self.is_last(chunk) else hidden.detach()

    def score(self, losses: Mapping[str, Loss], counting: bool) -> Tensor | None:
        """Notes the losses; what the backward begins with, None where no loss depends on the model."""
        total = torch.zeros((), device=self.place.device)
        for key, value in reported(losses).items() if counting else ():
            self.sums[key] = self.sums.get(key, 0.0) + value
        for name, loss in losses.items():
            total = total + loss.sum / max(self.counts.get(name, 1), 1)
        return total * (self.scale if counting else 0.0) if total.requires_grad else None

    def backward(self, action: Action) -> Tensor | None:
        """The gradient of the hidden states that came from the piece before; None in the first one."""
        _, micro_batch, chunk = action
        saved = self.kept.pop((micro_batch, chunk))
        above = None if self.is_last(chunk) else self.take(action)
        keep_gathered(self.model, micro_batch + 1 < len(self.micro_batches))
        if saved.root is not None:
            torch.autograd.backward(saved.root, above)
            self.accumulate()
        if saved.arrived is None:
            return None
        return torch.zeros_like(saved.arrived) if saved.arrived.grad is None else saved.arrived.grad

    def exchange(self, step: Step, made: Tensor | None) -> None:
        """All messages of a step at once, none of which is waited for before it is needed."""
        buffers = [self.buffer(tensor) for tensor in step.receive]
        operations = [
            dist.P2POp(dist.irecv, buffer, group=self.place.group, group_peer=tensor.sender)
            for buffer, tensor in zip(buffers, step.receive, strict=True)
        ]
        if step.send is not None:
            assert made is not None
            made = made.contiguous()
            operations.append(dist.P2POp(dist.isend, made, group=self.place.group, group_peer=step.send.receiver))
        if not operations:
            return
        works = dist.batch_isend_irecv(operations)  # one for each, or where they were joined, one for all
        for number, (buffer, tensor) in enumerate(zip(buffers, step.receive, strict=True)):
            self.arriving[tensor.action] = buffer, works[min(number, len(works) - 1)]
        if made is not None:
            self.leaving.append((made, works[-1]))
            if len(self.leaving) > self.place.parallel.pipeline:
                self.leaving.pop(0)[1].wait()

    def take(self, action: Action) -> Tensor:
        """The tensor that arrived for an action."""
        tensor, work = self.arriving.pop(action)
        work.wait()
        return tensor

    def buffer(self, message: Message) -> Tensor:
        """(batch, length, width) for the hidden states of a micro-batch, or for their gradient."""
        parallel = self.place.parallel
        batch, length = self.micro_batches[message.action.micro_batch].ids.shape
        length //= parallel.tensor if parallel.sequence_parallel else 1
        shape = batch, length, self.model.config.embedding.width
        return torch.empty(shape, dtype=self.place.dtype, device=self.place.device)

    def is_first(self, chunk: int) -> bool:
        return self.place.rank == 0 and chunk == 0

    def is_last(self, chunk: int) -> bool:
        return self.place.rank == self.place.last and chunk == self.place.parallel.chunks - 1
