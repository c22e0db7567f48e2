"""Over how many processes a training run is laid out, and how, as data, and what of a model each has; free of torch."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from lmworks.config import positive
from lmworks.model.config import Head, LanguageModelHead, MixtureOfExperts, ModelConfig, VocabularyHead

Zero = Literal[0, 1, 2, 3]
PipelineSchedule = Literal["1f1b", "gpipe"]


@dataclass(frozen=True)
class ParallelConfig:
    """The degrees of parallelism; their product is the number of processes, one for each device.

    data               Replicas, each with sequences of its own.
    zero               What ZeRO divides among data and context ranks: 0 nothing, 1 optimizer states, 2 gradients too,
                       3 weights too, which is FSDP (Rajbhandari et al. 2020, section 5).
    tensor             Devices that divide each matrix (Shoeybi et al. 2019, section 3).
    sequence_parallel  Norms and residuals are divided among these as well (Korthikanti et al. 2022, section 4.2.2).
    pipeline           Devices that divide the layers.
    chunks             Pieces of layers on each device of the pipeline, above 1 interleaved (Narayanan et al. 2021,
                       section 2.2).
    schedule           The order in a pipeline: `1f1b`, or `gpipe`, which keeps all parts of a step.
    context            Devices that divide each sequence (Grattafiori et al. 2024, section 3.3.2).
    expert             Devices that divide the experts of a mixture; a part of `data` · `context`.
    """

    data: int = 1
    zero: Zero = 0
    tensor: int = 1
    sequence_parallel: bool = False
    pipeline: int = 1
    chunks: int = 1
    schedule: PipelineSchedule = "1f1b"
    context: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        positive(data=self.data, tensor=self.tensor, pipeline=self.pipeline)
        positive(chunks=self.chunks, context=self.context, expert=self.expert)
        if self.zero not in (0, 1, 2, 3):
            raise ValueError(f"zero is 0, 1, 2 or 3, got {self.zero}")
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError("sequence_parallel divides among the tensor devices: set tensor above 1, or leave it out")
        if self.chunks > 1 and (self.pipeline == 1 or self.schedule != "1f1b"):
            raise ValueError("chunks interleave the 1f1b schedule of a pipeline: set pipeline above 1, or chunks to 1")
        if (self.data * self.context) % self.expert:
            raise ValueError(f"expert {self.expert} does not divide data · context = {self.data * self.context}")

    @property
    def devices(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def generates(self) -> bool:
        """Whether the model runs as one process's does, with a cache of keys."""
        return self.tensor == self.context == self.pipeline == 1 and (self.zero < 2 or self.shards == 1)

    @property
    def shards(self) -> int:
        """Among how many devices ZeRO divides: they hold the same weights and see other tokens."""
        return self.data * self.context


def check_layout(config: ModelConfig, parallel: ParallelConfig) -> None:
    """ValueError, with what to change, where the model cannot be divided like that."""
    if parallel.pipeline > 1 and config.encoder is not None and config.decoder is not None:
        raise ValueError("a pipeline through an encoder and a decoder is not planned here: set pipeline to 1")
    blocks = [block for stack in config.stacks for block in stack.blocks]
    if parallel.pipeline * parallel.chunks > len(blocks):
        raise ValueError(
            f"{len(blocks)} layers do not fill {parallel.pipeline} devices of {parallel.chunks} chunks: lower "
            "pipeline or chunks"
        )
    for block in blocks:
        for attention in filter(None, (block.attention, block.cross)):
            heads, kv_heads = attention.heads, attention.kv_heads
            if heads % parallel.tensor:
                raise ValueError(f"tensor {parallel.tensor} does not divide the {heads} heads: use a divisor of them")
            if kv_heads % parallel.tensor and parallel.tensor % kv_heads:
                raise ValueError(
                    f"tensor {parallel.tensor} neither divides the {kv_heads} key heads nor is divided by them"
                )
        network = block.feed_forward
        mixture = isinstance(network, MixtureOfExperts)
        for dense in filter(None, (network.expert, network.shared) if mixture else (network,)):
            if dense.hidden % parallel.tensor:
                raise ValueError(f"tensor {parallel.tensor} does not divide the hidden width {dense.hidden}")
        if mixture and network.experts % parallel.expert:
            raise ValueError(f"expert {parallel.expert} does not divide the {network.experts} experts")
    if parallel.expert > 1 and not any(isinstance(block.feed_forward, MixtureOfExperts) for block in blocks):
        raise ValueError("there is no mixture of experts in this model: set expert to 1")


def chunk_layers(layers: int, parallel: ParallelConfig, rank: int) -> list[list[int]]:
    """The numbers of the layers, 0 the first, in each chunk of device `rank` of the pipeline.

    The model is cut into pipeline · chunks pieces, and device r has the pieces r, r + pipeline, and so on. What does
    not divide evenly goes to the pieces in the middle, as the first and the last carry the embedding and the head:
    LLaMA 3 405B has a layer less on both (Grattafiori et al. 2024, section 3.3.2).
    """
    if not 0 <= rank < parallel.pipeline:
        raise ValueError(f"the devices of the pipeline are 0 to {parallel.pipeline - 1}, got {rank}")
    pieces = parallel.pipeline * parallel.chunks
    base, more = divmod(layers, pieces)
    first = (pieces - more) // 2
    starts = list(accumulate((base + (first <= piece < first + more) for piece in range(pieces)), initial=0))
    return [list(range(starts[piece], starts[piece + 1])) for piece in range(rank, pieces, parallel.pipeline)]


def head_reads_tokens(head: Head | None) -> bool:
    """Whether a head needs the token embedding: as its projection, or to read tokens that were already predicted."""
    if isinstance(head, LanguageModelHead):
        return head.tied
    return isinstance(head, VocabularyHead)
