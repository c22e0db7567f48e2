"""What a model makes of data that it is not trained on, without gradients."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor

from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective, part_of, rows_of, to_device


@dataclass(frozen=True, slots=True)
class Validation:
    """nats            mean loss over targets, of each of the objective's losses.
    targets         how many targets each was taken over.
    bits_per_byte   of the text of the targets: comparable between vocabularies; None where bytes are unknown.
    """

    nats: dict[str, float]
    targets: dict[str, int]
    bits_per_byte: float | None = None

    @property
    def total(self) -> float:
        """What training minimises: the sum of the means."""
        return sum(self.nats.values())


@torch.no_grad()
def validate(
    model: Transformer,
    objective: Objective,
    batches: Iterable[Any],
    part: int | None = None,
    bytes_of_token: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Validation:
    """`bytes_of_token` (vocabulary,) int64: bytes of text that each token stands for. ValueError without a target.

    Bits per byte are known of objectives whose examples have `targets` and a `mask` of those that were asked for.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    text: int | None = 0
    for batch in batches:
        examples = objective.examples(batch, seed=0)  # the same corruption at every validation
        rows = rows_of(examples)
        for start in range(0, rows, part or rows):
            losses = objective.losses(model, to_device(part_of(examples, slice(start, start + (part or rows))), device))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.metrics.get("nats", loss.sum))
                counts[name] = counts.get(name, 0) + loss.count
        size = _bytes_of(examples, sum(objective.counts(examples).values()), bytes_of_token)
        text = None if text is None or size is None else text + size
    if not all(counts.values()) or not counts:
        raise ValueError("the validation data holds no target: its documents are empty or wholly masked")
    bits = sum(sums.values()) / log(2) / text if text and len(sums) == 1 else None
    return Validation({name: sums[name] / counts[name] for name in sums}, counts, bits)


def _bytes_of(examples: Any, count: int, bytes_of_token: Tensor | None) -> int | None:
    """The bytes of text of the examples' `count` targets, which are not the batch's where an objective asks for others;
    None where they are not known, or are not tokens."""
    targets, mask = getattr(examples, "targets", None), getattr(examples, "mask", None)
    if bytes_of_token is None or targets is None or mask is None or int(mask.sum()) != count:
        return None
    return int(bytes_of_token[targets[mask]].sum())
