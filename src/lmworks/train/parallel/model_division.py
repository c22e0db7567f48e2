"""The checks that a model can be divided among devices, and the layers of each device of a pipeline. Free of torch."""

from itertools import accumulate

from lmworks.model.config import Head, LanguageModelHead, MixtureOfExperts, ModelConfig, VocabularyHead
from lmworks.train.parallel.config import ParallelConfig


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
