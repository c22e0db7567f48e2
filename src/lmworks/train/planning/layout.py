"""The layout of a training step over devices, and its number formats: the configs of the memory model.

Free of torch.
"""

from dataclasses import dataclass
from typing import Literal

from lmworks.config import positive
from lmworks.train.config import Recompute
from lmworks.train.parallel.config import ParallelConfig

# Whether all logits exist at once, or the loss projects a few at a time (`losses.token_cross_entropy`).
Logits = Literal["whole", "projected"]
# "fused": a kernel that keeps a norm's input and its scale, as on a GPU; "composed": the operations of an RMS norm one
# by one, as PyTorch runs it on a CPU, which keeps the normalised values besides, both in float32.
Norms = Literal["fused", "composed"]


@dataclass(frozen=True)
class Layout(ParallelConfig):
    """The degrees of parallelism, which `ParallelConfig` describes, the batch, and what is kept.

    sequences           in one forward of a replica: the micro-batch.
    micro_batches       forwards of a replica in one step: gradient accumulation, and what fills the pipeline.
    length              tokens of a sequence.
    recompute           "nothing" keeps all that the backward reads, "selective" the products and the attention,
                        "blocks" the input of each block alone (Chen et al. 2016).
    logits              "projected": a few at a time, as the loop does; "whole": all of a micro-batch.
    """

    sequences: int = 1
    micro_batches: int = 1
    length: int = 2048
    recompute: Recompute = "nothing"
    logits: Logits = "projected"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(sequences=self.sequences, micro_batches=self.micro_batches, length=self.length)
        if self.chunks > 1 and self.micro_batches % self.pipeline:
            raise ValueError(
                f"an interleaved schedule takes micro_batches in multiples of pipeline, got {self.micro_batches} and "
                f"{self.pipeline} (Narayanan et al. 2021, section 2.2)"
            )
        if self.context > 1 and self.length % (2 * self.context):
            raise ValueError(
                f"context devices take two pieces each of a sequence: make the length {self.length} a multiple of "
                f"{2 * self.context}"
            )

    @property
    def tokens_per_device(self) -> int:
        """Tokens of a micro-batch on one device: what its context group divides counts in part."""
        return self.sequences * self.length // self.context

    @property
    def tokens_per_step(self) -> int:
        """Tokens of all replicas and micro-batches: the batch."""
        return self.data * self.micro_batches * self.sequences * self.length


@dataclass(frozen=True)
class Numbers:
    """Bytes of one value of each kind. `master` is a second copy of the weights that the optimizer updates, 0 without;
    `state` one value of the optimizer's."""

    weights: int
    gradients: int
    activations: int
    master: int = 0
    state: int = 4


NUMBERS: dict[str, Numbers] = {
    # Micikevicius et al. 2018; the 16 bytes per parameter of Rajbhandari et al. 2020, section 3.1.
    "mixed": Numbers(weights=2, gradients=2, activations=2, master=4),
    "float32": Numbers(weights=4, gradients=4, activations=4),
    "bfloat16": Numbers(weights=2, gradients=2, activations=2, state=2),
}

# Values that an optimizer keeps for each parameter.
OPTIMIZERS: dict[str, int] = {"adamw": 2, "lion": 1, "momentum": 1, "sgd": 0}


def pieces_in_flight(layout: Layout, rank: int) -> float:
    """The most micro-batches that a device of the pipeline keeps activations of, in units of all its layers.

    1f1b: as many as there are devices from here to the end. Interleaved: 1 + (p − 1) / (p v) times p for the first
    device (Korthikanti et al. 2022, section 4.2.3). GPipe: all of them (Huang et al. 2019).
    """
    if layout.schedule == "gpipe":
        return layout.micro_batches
    after = layout.pipeline - rank - 1
    if layout.chunks == 1:
        return min(layout.micro_batches, after + 1)
    chunks = 2 * after + (layout.chunks - 1) * layout.pipeline + 1
    return min(layout.micro_batches, chunks / layout.chunks)
