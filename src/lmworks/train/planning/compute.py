"""Operations and time of training: of a step and of a run, on known devices or at a measured rate. Free of torch."""

from dataclasses import dataclass

from lmworks.model import config as configs
from lmworks.model.model_costs import flops_per_token, sizes_of_parts
from lmworks.train.config import Recompute
from lmworks.train.planning.layout import Layout


@dataclass(frozen=True)
class Device:
    """A device as its maker describes it: dense products of bfloat16 (V100: float16) in operations per second, and
    memory in bytes."""

    name: str
    peak: float
    memory: float


# Data sheets of the makers; SXM versions of NVIDIA's.
DEVICES: dict[str, Device] = {
    "v100-32gb": Device("V100 32 GB", 125e12, 32 * 2**30),
    "a100-40gb": Device("A100 40 GB", 312e12, 40 * 2**30),
    "a100-80gb": Device("A100 80 GB", 312e12, 80 * 2**30),
    "h100-80gb": Device("H100 80 GB", 989e12, 80 * 2**30),
    "h200": Device("H200", 989e12, 141e9),
}
UTILISATION = 0.4  # of the peak, in the middle of what is published for large runs: see docs/scaling-laws.md


def find_device(name: str) -> Device:
    """A device by its name; LookupError that lists the names for an unknown one."""
    if name not in DEVICES:
        raise LookupError(f"there is no device {name!r} in the plan; choose one of {', '.join(DEVICES)}")
    return DEVICES[name]


def inner_parameters(config: configs.ModelConfig) -> int:
    """Parameters without those of embedding and head."""
    parts = sizes_of_parts(config)
    return sum(size.total for name, size in parts.items() if name not in ("embedding", "head"))


def train_flops_per_token(config: configs.ModelConfig, length: int) -> float:
    """Operations of forward and backward for each token of sequences of `length` tokens, without any that checkpointing
    repeats: three times the forward's. Queries times keys count as the whole square, the convention of utilisations
    (Chowdhery et al. 2022, appendix B), though a causal kernel computes the half of it."""
    return 3 * flops_per_token(config, length)


def repeated_share(recompute: Recompute) -> float:
    """Operations that are done again, as a share of those that the model needs: the forward, a third, for "blocks";
    next to none for "selective", which repeats no product."""
    return 1 / 3 if recompute == "blocks" else 0.0


def bubble_share(layout: Layout) -> float:
    """Time in which a device of the pipeline waits, as a share of the time in which it works: (p − 1) / (v m)
    (Narayanan et al. 2021, section 2.2)."""
    return (layout.pipeline - 1) / (layout.chunks * layout.micro_batches)
