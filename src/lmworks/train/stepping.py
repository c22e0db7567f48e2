"""The gradients of one optimizer step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective, part_of, rows_of, to_device
from lmworks.train.parallel.sharding import keep_gathered
from lmworks.train.weights import Weights


@dataclass(frozen=True, slots=True)
class StepGradients:
    """losses   the mean of each of the objective's losses over the step, in nats where it has nats
    targets  over which the means were taken, of all losses together; without any there is no gradient
    norm     of the gradient
    first    (targets, squared norm of the mean gradient) of the step's first part, if there were several
    scale    that the gradients which the weights now have are multiplied with
    rate     what the learning rate was multiplied with, once the step was taken
    """

    losses: dict[str, float]
    targets: int
    norm: float
    first: tuple[float, float] | None
    scale: float = 1.0
    rate: float = 0.0

    @property
    def loss(self) -> float:
        """What was minimised, without smoothing and penalties."""
        return sum(self.losses.values())


def compute_gradients(
    model: Transformer,
    weights: Weights,
    objective: Objective,
    examples: Sequence[Any],
    part: int | None = None,
    scale: float = 1.0,
    device: torch.device | str = "cpu",
    at_least: int = 1,
) -> StepGradients:
    """Leaves in `weights` the gradient of the mean loss over all `examples`, those of other processes too, times
    `scale`.

    They are counted first, and each part's sum is divided by the count of all, so the division into parts of at most
    `part` sequences, and among processes, changes nothing but the rounding. `at_least` so many parts are made, where
    there are as many sequences: without two of them there is no `first`.
    """
    mine: dict[str, int] = {}
    for prepared in examples:
        for name, count in objective.counts(prepared).items():
            mine[name] = mine.get(name, 0) + count
    counts = {name: int(n) for name, n in zip(mine, weights.ranks.total(list(mine.values())), strict=True)}
    weights.clear()
    if not any(counts.values()):
        return StepGradients(dict.fromkeys(counts, 0.0), 0, 0.0, None, scale)
    most = max(sum(rows_of(prepared) for prepared in examples) // at_least, 1)
    size = most if part is None else min(part, most)
    parts = [piece for prepared in examples for piece in _parts(prepared, size)]
    # Processes that gather or sum something within a part must all come by: who has fewer shows the last one again.
    idle = int(weights.ranks.most([len(parts)])[0]) - len(parts)
    sums = {name: torch.zeros((), device=device) for name in counts}
    first = None
    for number, piece in enumerate([*parts, *parts[-1:] * idle]):
        losses = objective.losses(model, to_device(piece, device))
        total = sum((loss.sum / max(counts[name], 1) for name, loss in losses.items()), torch.zeros((), device=device))
        keep_gathered(model, number + 1 < len(parts) + idle)
        if total.requires_grad:  # not where no sequence has a target
            (total * (scale if number < len(parts) else 0.0)).backward()
        if len(parts) + idle > 1:
            weights.accumulate()
            if number == 0:
                first = weights.noise_of_part(sum(objective.counts(piece).values()), sum(counts.values()), scale)
        if number < len(parts):
            for name, loss in losses.items():
                sums[name] += loss.metrics.get("nats", loss.sum).detach()
    weights.sum_over_ranks()
    nats = weights.ranks.total([float(sums[name]) for name in counts])
    means = {name: value / max(counts[name], 1) for name, value in zip(counts, nats, strict=True)}
    return StepGradients(means, sum(counts.values()), float(weights.gradient_norm()) / scale, first, scale)


def _parts(examples: Any, size: int) -> list[Any]:
    rows = rows_of(examples)
    if size >= rows:
        return [examples]
    return [part_of(examples, slice(start, start + size)) for start in range(0, rows, size)]
