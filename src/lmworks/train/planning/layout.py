"""The layout of a training step over devices, and its number formats: the configs of the memory model.

Free of torch.
"""

from dataclasses import dataclass
from typing import Literal

from lmworks.config_checks import positive
from lmworks.model.config import Block, MixtureOfExperts, ModelConfig
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


def check_layout(config: ModelConfig, layout: Layout) -> None:
    """ValueError, with what to change, where the model cannot be divided like that."""
    if layout.pipeline > 1 and config.encoder is not None and config.decoder is not None:
        raise ValueError("a pipeline through an encoder and a decoder is not planned here: set pipeline to 1")
    blocks = [block for stack in config.stacks for block in stack.blocks]
    if layout.pipeline * layout.chunks > len(blocks):
        raise ValueError(
            f"{len(blocks)} layers do not fill {layout.pipeline} devices of {layout.chunks} chunks: lower "
            "pipeline or chunks"
        )
    for block in blocks:
        for attention in filter(None, (block.attention, block.cross)):
            heads, kv_heads = attention.heads, attention.kv_heads
            if heads % layout.tensor:
                raise ValueError(f"tensor {layout.tensor} does not divide the {heads} heads: use a divisor of them")
            if kv_heads % layout.tensor and layout.tensor % kv_heads:
                raise ValueError(
                    f"tensor {layout.tensor} neither divides the {kv_heads} key heads nor is divided by them"
                )
        network = block.feed_forward
        mixture = isinstance(network, MixtureOfExperts)
        for each in filter(None, (network.expert, network.shared) if mixture else (network,)):
            if each.hidden % layout.tensor:
                raise ValueError(f"tensor {layout.tensor} does not divide the hidden width {each.hidden}")
        if mixture and network.experts % layout.expert:
            raise ValueError(f"expert {layout.expert} does not divide the {network.experts} experts")
    if layout.expert > 1 and not any(isinstance(block.feed_forward, MixtureOfExperts) for block in blocks):
        raise ValueError("there is no mixture of experts in this model: set expert to 1")


def stage_layers(layers: int, layout: Layout, rank: int) -> list[int]:
    """The numbers of the layers on one device of the pipeline, 0 the first.

    The model is cut into pipeline · chunks pieces, and device r has the pieces r, r + pipeline, and so on. What does
    not divide evenly goes to the pieces in the middle, as the first and the last carry the embedding and the head:
    LLaMA 3 405B has a layer less on both (Grattafiori et al. 2024, section 3.3.2).
    """
    if not 0 <= rank < layout.pipeline:
        raise ValueError(f"the devices of the pipeline are 0 to {layout.pipeline - 1}, got {rank}")
    pieces = layout.pipeline * layout.chunks
    base, more = divmod(layers, pieces)
    first = (pieces - more) // 2
    sizes = [base + (1 if first <= piece < first + more else 0) for piece in range(pieces)]
    starts = [sum(sizes[:piece]) for piece in range(pieces)]
    mine = range(rank, pieces, layout.pipeline)
    return [layer for piece in mine for layer in range(starts[piece], starts[piece] + sizes[piece])]


def stage_blocks(config: ModelConfig, layout: Layout, rank: int) -> list[Block]:
    """The blocks on one device of the pipeline; of an encoder–decoder, which has no pipeline here, all."""
    blocks = [block for stack in config.stacks for block in stack.blocks]
    return [blocks[layer] for layer in stage_layers(len(blocks), layout, rank)]


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
