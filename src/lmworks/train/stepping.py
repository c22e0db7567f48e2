"""The gradients of one optimizer step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective, part_of, rows_of, to_device
from lmworks.train.weights import Weights


@dataclass(frozen=True, slots=True)
class StepGradients:
    """losses   the mean of each of the objective's losses over the step, in nats where it has nats
    targets  over which the means were taken, of all losses together
    norm     of the gradient
    first    (targets, squared norm of the mean gradient) of the step's first part, if there were several
    scale    that the gradients which the weights now have are multiplied with
    rate     what the learning rate was multiplied with, once the step was taken
    """

    losses: dict[str, float]
    targets: int
    norm: float
    first: tuple[int, float] | None
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
    """Leaves in `weights` the gradient of the mean loss over all `examples`, times `scale`.

    They are counted first, and each part's sum is divided by the count of all, so the division into parts of at most
    `part` sequences changes nothing but the rounding. `at_least` so many parts are made, where there are as many
    sequences: without two of them there is no `first`.
    """
    counts: dict[str, int] = {}
    for prepared in examples:
        for name, count in objective.counts(prepared).items():
            counts[name] = counts.get(name, 0) + count
    most = max(sum(rows_of(prepared) for prepared in examples) // at_least, 1)
    size = most if part is None else min(part, most)
    parts = [piece for prepared in examples for piece in _parts(prepared, size)]
    sums = {name: torch.zeros((), device=device) for name in counts}
    first = None
    weights.clear()
    for number, piece in enumerate(parts):
        losses = objective.losses(model, to_device(piece, device))
        total = sum((loss.sum / max(counts[name], 1) for name, loss in losses.items()), torch.zeros((), device=device))
        if total.requires_grad:  # not where no sequence has a target
            (total * scale).backward()
        if len(parts) > 1:
            weights.accumulate()
            if number == 0:
                mine, all_targets = sum(objective.counts(piece).values()), sum(counts.values())
                mean = float(weights.gradient_norm()) / scale * all_targets / max(mine, 1)
                first = (mine, mean**2) if 0 < mine < all_targets else None
        for name, loss in losses.items():
            sums[name] += loss.metrics.get("nats", loss.sum).detach()
    means = {name: float(sums[name]) / max(counts[name], 1) for name in counts}
    return StepGradients(means, sum(counts.values()), float(weights.gradient_norm()) / scale, first, scale)


def _parts(examples: Any, size: int) -> list[Any]:
    rows = rows_of(examples)
    if size >= rows:
        return [examples]
    return [part_of(examples, slice(start, start + size)) for start in range(0, rows, size)]
