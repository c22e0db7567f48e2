"""Gradient accumulation: the gradients of one optimizer step, summed over its micro-batches."""

from dataclasses import dataclass
from typing import Any

import torch

from lmworks.model.transformer import Transformer
from lmworks.train.losses import metric_names, reported
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.objective import Objective, count_rows, micro_batches, to_device
from lmworks.train.parallel.fsdp import keep_gathered
from lmworks.train.parallel.pipeline import PipelineRank, pipeline_gradients, sum_shared


@dataclass(frozen=True, slots=True)
class StepGradients:
    """losses   the mean of each of the objective's losses over the step, in nats where it has nats
    metrics  the mean of each other metric over its loss's targets, by `losses.metric_names`
    loss     what was minimised: the sum of the losses as the objective weighs them, without smoothing and penalties
    targets  over which the means were taken, of all losses together; without any there is no gradient
    norm     of the gradient
    scale    that the gradients which the weights now have are multiplied with
    rate     what the learning rate was multiplied with, and `tokens` how many it saw, once the step was taken
    """

    losses: dict[str, float]
    metrics: dict[str, float]
    loss: float
    targets: int
    norm: float
    scale: float = 1.0
    rate: float = 0.0
    tokens: int = 0


def compute_gradients(
    model: Transformer,
    weights: Weights,
    objective: Objective,
    examples: Any,
    micro_batch: int | None = None,
    scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> StepGradients:
    """Leaves in `weights` the gradient of the mean loss over the `examples`, those of other processes too, times
    `scale`.

    Targets are counted first, and each micro-batch's sum is divided by the count of all, so the division into
    micro-batches of at most `micro_batch` sequences, and among processes, changes nothing but the rounding.
    """
    ranks, rank_counts = weights.ranks, objective.counts(examples)
    counts = {
        name: int(count) for name, count in zip(rank_counts, ranks.total(list(rank_counts.values())), strict=True)
    }
    weights.clear()
    if not any(counts.values()):
        return StepGradients(dict.fromkeys(counts, 0.0), {}, 0.0, 0, 0.0, scale)
    most = max(count_rows(examples) // ranks.config.pipeline, 1)
    pieces = micro_batches(examples, most if micro_batch is None else min(micro_batch, most))
    # Processes that exchange something within a micro-batch need equally many: some repeat their last one.
    needed = int(ranks.most([len(pieces)])[0])
    if ranks.config.chunks > 1:
        needed = -(-needed // ranks.config.pipeline) * ranks.config.pipeline
    zero = torch.zeros((), device=device)
    padded, counting = [*pieces, *pieces[-1:] * (needed - len(pieces))], len(pieces)
    sums: dict[tuple[str, str], Any] = {}  # as `losses.reported` has them
    if ranks.config.pipeline == 1:
        for number, piece in enumerate(padded):
            losses = objective.losses(model, to_device(piece, device))
            total = sum((loss.sum / max(counts[name], 1) for name, loss in losses.items()), zero)
            keep_gathered(model, number + 1 < needed)
            if total.requires_grad:  # not where no sequence has a target
                (total * (scale if number < counting else 0.0)).backward()
            if needed > 1:
                weights.accumulate()
            if number < counting:
                for key, value in reported(losses).items():
                    sums[key] = sums.get(key, 0.0) + value
        weights.sum_over_ranks()
    else:
        pipeline_rank = PipelineRank(ranks.config, ranks.along("pipeline").get_group(), weights.dtype, device)
        arguments = model, pipeline_rank, objective, padded, counts, scale, weights.accumulate, needed - counting
        sums = pipeline_gradients(*arguments).sums
        weights.sum_over_ranks()
        sum_shared(model.config, pipeline_rank, dict(weights.gradients()))
    totals = ranks.total([float(value) for value in sums.values()])
    means = {key: total / max(counts[key[0]], 1) for key, total in zip(sums, totals, strict=True)}
    nats = {name: means[name, "loss"] for name in counts}
    metrics = {name: means[key] for key, name in metric_names(means).items()}
    norm = float(weights.gradient_norm()) / scale
    loss = sum(objective.loss_weights().get(name, 1.0) * mean for name, mean in nats.items())
    return StepGradients(nats, metrics, loss, sum(counts.values()), norm, scale)
