"""Losses without gradients, of a model that several processes hold."""

from typing import Any

import torch

from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective, to_device
from lmworks.train.parallel.context_parallel import divide_sequence
from lmworks.train.parallel.pipeline import Place, pipeline_losses
from lmworks.train.parallel.ranks import Ranks
from lmworks.train.validation import Sums, sums_of


@torch.no_grad()
def losses_of(
    model: Transformer,
    objective: Objective,
    examples: Any,
    ranks: Ranks,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Sums:
    """(sum, count) of each loss and metric, the same on all processes, of `examples` that each of them has: replicas do
    the same work; the devices of a context, a pipeline or a matrix divide it."""
    if ranks.config.context > 1:
        examples = divide_sequence(examples, ranks.along("context"))
    if ranks.config.pipeline > 1:
        place = Place(ranks.config, ranks.along("pipeline").get_group(), dtype, device)
        passed = pipeline_losses(model, place, objective, [examples])
        found = {key: (total, passed.counts[key[0]]) for key, total in passed.sums.items()}
    else:
        found = sums_of(model, objective, to_device(examples, device))
    if ranks.config.context == 1:
        return found
    values = ranks.total([value for pair in found.values() for value in pair], "context")
    return {key: (values[2 * number], int(values[2 * number + 1])) for number, key in enumerate(found)}
