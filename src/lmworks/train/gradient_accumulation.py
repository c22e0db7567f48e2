"""Gradient accumulation: the gradients of one optimizer step, summed over its micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmworks.model.transformer import Transformer
from lmworks.train.losses import metric_names, reported
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.objective import Objective, count_rows, select_rows, to_device, total_loss
from lmworks.train.parallel.fsdp import keep_gathered
from lmworks.train.parallel.pipeline import PipelineRank, pipeline_gradients, sum_shared


@dataclass(frozen=True, slots=True)
class StepGradients:
    """losses   the mean of each of the objective's losses over the step, in nats where it has nats
    metrics  the mean of each other metric over its loss's targets, by `losses.metric_names`
    loss     what was minimised: the sum of the losses as the objective weighs them, without smoothing and penalties
    targets  over which the means were taken, of all losses together; without any there is no gradient
    norm     of the gradient
    first    (targets, squared norm of the mean gradient) of the step's first micro-batch, if that was to be measured
    scale    that the gradients which the weights now have are multiplied with
    rate     what the learning rate was multiplied with, and `tokens` how many it saw, once the step was taken
    """

    losses: dict[str, float]
    metrics: dict[str, float]
    loss: float
    targets: int
    norm: float
    first: tuple[float, float] | None
    scale: float = 1.0
    rate: float = 0.0
    tokens: int = 0


def compute_gradients(
    model: Transformer,
    weights: Weights,
    objective: Objective,
    examples: Sequence[Any],
    micro_batch: int | None = None,
    scale: float = 1.0,
    device: torch.device | str = "cpu",
    noise: bool = False,
) -> StepGradients:
    """Leaves in `weights` the gradient of the mean loss over all `examples`, those of other processes too, times
    `scale`.

    Targets are counted first, and each micro-batch's sum is divided by the count of all, so the division into
    micro-batches of at most `micro_batch` sequences, and among processes, changes nothing but the rounding. With
    `noise` there are two, where there are as many sequences, and `first` is measured, which waits for the device.
    """
    ranks, mine = weights.ranks, dict[str, int]()
    for prepared in examples:
        for name, count in objective.counts(prepared).items():
            mine[name] = mine.get(name, 0) + count
    counts = {name: int(count) for name, count in zip(mine, ranks.total(list(mine.values())), strict=True)}
    weights.clear()
    if not any(counts.values()):
        return StepGradients(dict.fromkeys(counts, 0.0), {}, 0.0, 0, 0.0, None, scale)
    most = max(sum(count_rows(prepared) for prepared in examples) // max(1 + noise, ranks.config.pipeline), 1)
    size = most if micro_batch is None else min(micro_batch, most)
    micro_batches = [piece for prepared in examples for piece in _micro_batches(prepared, size)]
    # Processes that exchange something within a micro-batch need equally many: some repeat their last one.
    needed = int(ranks.most([len(micro_batches)])[0])
    if ranks.config.chunks > 1:
        needed = -(-needed // ranks.config.pipeline) * ranks.config.pipeline
    work = _Work(
        model,
        weights,
        objective,
        [*micro_batches, *micro_batches[-1:] * (needed - len(micro_batches))],
        len(micro_batches),
        counts,
        scale,
        device,
        noise,
    )
    sums, first = _sequential(work) if ranks.config.pipeline == 1 else (_pipelined(work), None)
    weights.sum_over_ranks()
    if ranks.config.pipeline > 1:
        sum_shared(model.config, _place(work), dict(weights.gradients()))
    totals = ranks.total([float(value) for value in sums.values()])
    means = {key: total / max(counts[key[0]], 1) for key, total in zip(sums, totals, strict=True)}
    losses = {name: means[name, "loss"] for name in counts}
    metrics = {name: means[key] for key, name in metric_names(means).items()}
    norm = float(weights.gradient_norm()) / scale
    return StepGradients(losses, metrics, total_loss(objective, losses), sum(counts.values()), norm, first, scale)


@dataclass(frozen=True, slots=True)
class _Work:
    """The micro-batches of a step, of which the first `counting` are this process's; the rest add nothing."""

    model: Transformer
    weights: Weights
    objective: Objective
    micro_batches: Sequence[Any]
    counting: int
    counts: dict[str, int]
    scale: float
    device: torch.device | str
    noise: bool


def _sequential(work: _Work) -> tuple[dict[tuple[str, str], Tensor], tuple[float, float] | None]:
    """Forward and backward of each micro-batch: the sums that `losses.reported` gives, over this process's, and
    `StepGradients.first`."""
    counts, objective, weights, device = work.counts, work.objective, work.weights, work.device
    sums: dict[tuple[str, str], Tensor] = {}
    first = None
    for number, piece in enumerate(work.micro_batches):
        losses = objective.losses(work.model, to_device(piece, device))
        total = sum((loss.sum / max(counts[name], 1) for name, loss in losses.items()), torch.zeros((), device=device))
        keep_gathered(work.model, number + 1 < len(work.micro_batches))
        if total.requires_grad:  # not where no sequence has a target
            (total * (work.scale if number < work.counting else 0.0)).backward()
        if len(work.micro_batches) > 1:
            weights.accumulate()
            if number == 0 and work.noise:
                first = weights.noise_of_micro_batch(
                    sum(objective.counts(piece).values()), sum(counts.values()), work.scale
                )
        if number < work.counting:
            for key, value in reported(losses).items():
                sums[key] = sums.get(key, 0.0) + value
    return sums, first


def _pipelined(work: _Work) -> dict[tuple[str, str], float]:
    """The same sums, by all devices of a pipeline at once."""
    passed = pipeline_gradients(
        work.model,
        _place(work),
        work.objective,
        work.micro_batches,
        work.counts,
        work.scale,
        work.weights.accumulate,
        len(work.micro_batches) - work.counting,
    )
    return passed.sums


def _place(work: _Work) -> PipelineRank:
    ranks = work.weights.ranks
    return PipelineRank(ranks.config, ranks.along("pipeline").get_group(), work.weights.dtype, work.device)


def _micro_batches(examples: Any, size: int) -> list[Any]:
    rows = count_rows(examples)
    if size >= rows:
        return [examples]
    return [select_rows(examples, slice(start, start + size)) for start in range(0, rows, size)]
