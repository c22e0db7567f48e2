"""The share of a model that one process of a run computes: all kinds of parallelism, in one written order.

pipeline → tensors and sequences, experts, contexts → recompute → compile → ZeRO 2 and 3
"""

from typing import Any

import torch

from lmworks.model.mixture_of_experts import MixtureOfExperts
from lmworks.model.transformer import Transformer
from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
from lmworks.train.config import TrainConfig
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objectives.objective import Objective, to_device
from lmworks.train.parallel.context_parallel import check_objective, places, shard_context, shard_sequence
from lmworks.train.parallel.expert_parallel import shard_experts
from lmworks.train.parallel.fsdp import shard_weights
from lmworks.train.parallel.pipeline import PipelineRank, check_pipelined, pipeline_losses
from lmworks.train.parallel.pipeline_split import split
from lmworks.train.parallel.ranks import Ranks
from lmworks.train.parallel.tensor_parallel import shard_tensors
from lmworks.train.validation import Sums, sums_of


def parallelize(model: Transformer, config: TrainConfig, ranks: Ranks) -> Transformer:
    """Leaves of `model`, in place, the share that this process computes. ValueError for what cannot be divided so."""
    parallel = config.parallel
    if parallel.pipeline > 1:
        model = split(model, parallel, ranks.along("pipeline").get_local_rank())
    if parallel.tensor > 1:
        model = shard_tensors(model, ranks.along("tensor"), parallel.sequence_parallel)
    mixture = any(isinstance(module, MixtureOfExperts) for module in model.modules())
    # FSDP needs a gradient of every expert on every process: also where it was not chosen, as divided ones have.
    if ranks.expert_mesh is not None and (parallel.expert > 1 or mixture):
        model = shard_experts(model, ranks.expert_mesh["expert"])
    if parallel.context > 1:
        model = shard_context(model, ranks.along("context"))
    model = checkpoint_activations(model, config.recompute)
    if config.compile:
        for block in blocks(model):
            block.compile()
    if parallel.zero >= 2 and parallel.shards > 1:
        model = shard_weights(model, ranks, DTYPES[config.precision])
    return model


def check(ranks: Ranks, config: TrainConfig, loader: Any, objective: Objective[Any]) -> None:
    """ValueError, or TypeError for an objective, where processes are not laid out as the config says, the loader makes
    other rows than theirs, or the layout cannot do what the run asks for."""
    parallel = config.parallel
    if ranks.config != parallel:
        raise ValueError(
            f"`parallel` lays the run out over {parallel.devices} processes, and `ranks` are {ranks.config.devices}: "
            "make the run with `ranks=join(config.parallel)`"
        )
    rows = (getattr(loader, "rank", 0), getattr(loader, "world_size", 1))
    if rows != ranks.rows:
        raise ValueError(
            f"the loader makes the rows of rank {rows[0]} of {rows[1]}, this is rank {ranks.rows[0]} of "
            f"{ranks.rows[1]} of `parallel.data`: make it with Loader(config, *ranks.rows)"
        )
    if parallel.context > 1:
        check_objective(objective)
        places(loader.config.length, parallel.context, 0)
    if parallel.pipeline > 1:
        check_pipelined(objective)


@torch.no_grad()
def parallel_losses(
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
        examples = shard_sequence(examples, ranks.along("context"))
    if ranks.config.pipeline > 1:
        pipeline_rank = PipelineRank(ranks.config, ranks.along("pipeline").get_group(), dtype, device)
        passed = pipeline_losses(model, pipeline_rank, objective, [examples])
        sums = {key: (total, passed.counts[key[0]]) for key, total in passed.sums.items()}
    else:
        sums = sums_of(model, objective, to_device(examples, device))
    if ranks.config.context == 1:
        return sums
    values = ranks.total([value for pair in sums.values() for value in pair], "context")
    return {key: (values[2 * number], int(values[2 * number + 1])) for number, key in enumerate(sums)}
