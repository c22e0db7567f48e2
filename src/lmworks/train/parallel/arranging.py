"""From a model to what one process of a run has of it, in one written order.

pipeline → tensors and sequences, experts, contexts → recompute → compile → ZeRO 2 and 3
"""

from typing import Any

from lmworks.model.transformer import Transformer
from lmworks.train.config import TrainConfig
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.ranks import REPLICAS, Ranks
from lmworks.train.parallel.sharding import divide_weights
from lmworks.train.precision import DTYPES
from lmworks.train.recomputing import blocks, recompute


def arrange(model: Transformer, config: TrainConfig, ranks: Ranks) -> Transformer:
    """What this process computes of `model`, which is changed in place."""
    model = recompute(model, config.recompute)
    if config.compile:
        for block in blocks(model):
            block.compile()
    if config.parallel.zero >= 2 and ranks.replicas is not None:
        model = divide_weights(model, ranks.along(REPLICAS), config.parallel.zero, DTYPES[config.precision])
    return model


def check_ranks(ranks: Ranks, parallel: ParallelConfig, loader: Any) -> None:
    """ValueError for processes that are not laid out as the config says, and for a loader of other rows."""
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
