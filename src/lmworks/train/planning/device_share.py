"""The share of a model that one device holds: a smaller model, and its parameters before ZeRO divides them.

Tensor parallelism (Shoeybi et al. 2019, section 3) divides attention by heads, the feed-forward by its hidden width and
the token vectors by the vocabulary; norms, biases of what is summed afterwards, routers and learned positions are on
every device. So a device computes with a model of fewer heads, hidden units and tokens. Free of torch.
"""

from dataclasses import dataclass, replace

from lmworks.model import config as configs
from lmworks.model.model_costs import Size, block_sizes, feed_forward_size, norms_size, sizes_of_parts
from lmworks.train.parallel.config import check_layout, chunk_layers, head_reads_tokens
from lmworks.train.planning.layout import Layout


@dataclass(frozen=True)
class DeviceShare:
    """The share of device `rank` of a pipeline, of the one of its tensor devices that has the most.

    config          the model that the tensor devices of all stages compute with
    blocks          the layers of this stage
    dense           parameters that are the same on every data rank; `ends` are those of embedding, final norm and head
    experts         parameters that expert parallelism divides
    largest_block   parameters of the largest layer, of both kinds: what ZeRO-3 gathers at a time
    """

    config: configs.ModelConfig
    layout: Layout
    rank: int
    blocks: tuple[configs.Block, ...]
    dense: int
    ends: int
    experts: int
    largest_block: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def last(self) -> bool:
        return self.rank == self.layout.pipeline - 1

    @property
    def parameters(self) -> int:
        return self.dense + self.experts


def device_share(model: configs.ModelConfig, layout: Layout, rank: int = 0) -> DeviceShare:
    """The share of device `rank` of the pipeline. ValueError for a layout that does not fit the model."""
    check_layout(model, layout)
    layers = [block for stack in model.stacks for block in stack.blocks]
    layers = [layers[number] for chunk in chunk_layers(len(layers), layout, rank) for number in chunk]
    width, blocks = model.embedding.width, tuple(_tensor_share(block, layout) for block in layers)
    counts = [_parameters(block, width, layout) for block in layers]
    dense, experts = (sum(kind) for kind in zip(*counts, strict=True))
    stacks = {
        name: replace(stack, blocks=tuple(_tensor_share(block, layout) for block in stack.blocks))
        for name, stack in (("encoder", model.encoder), ("decoder", model.decoder))
        if stack is not None
    }
    embeddings = {
        name: replace(embedding, vocabulary=-(-embedding.vocabulary // layout.tensor))  # padded
        for name, embedding in (("embedding", model.embedding), ("decoder_embedding", model.decoder_embedding))
        if embedding is not None
    }
    head = model.head
    if isinstance(head, configs.MultiTokenHead):
        head = replace(head, block=_tensor_share(head.block, layout))
    config = replace(model, head=head, **embeddings, **stacks)
    ends = _ends(model, config, layout, first=rank == 0, last=rank == layout.pipeline - 1)
    return DeviceShare(config, layout, rank, blocks, dense + ends, ends, experts, max(map(sum, counts)))


def _tensor_share(block: configs.Block, layout: Layout) -> configs.Block:
    """The block that a tensor device computes with: with fewer key heads than devices, with one of these."""

    def attention(whole: configs.Attention) -> configs.Attention:
        return replace(whole, heads=whole.heads // layout.tensor, kv_heads=-(-whole.kv_heads // layout.tensor))

    def dense(whole: configs.FeedForward) -> configs.FeedForward:
        return replace(whole, hidden=whole.hidden // layout.tensor)

    network = block.feed_forward
    if isinstance(network, configs.FeedForward):
        network = dense(network)
    else:
        network = replace(network, expert=dense(network.expert), shared=network.shared and dense(network.shared))
    cross = block.cross and attention(block.cross)
    return replace(block, attention=attention(block.attention), cross=cross, feed_forward=network)


def _parameters(block: configs.Block, width: int, layout: Layout) -> tuple[int, int]:
    """Parameters of one layer of the whole model on one device: the dense ones, and those of experts."""
    share = _tensor_share(block, layout)
    dense = sum(block_sizes(share, width).values(), Size()).total
    for attention in filter(None, (block.attention, block.cross)):
        if attention.kv_heads < layout.tensor:  # each device has all key heads, and computes with one
            dense += 2 * (attention.kv_heads - 1) * attention.head_dim * (width + attention.bias)
    if isinstance(share.feed_forward, configs.FeedForward):
        return dense, 0
    experts = share.feed_forward.experts * feed_forward_size(share.feed_forward.expert, width).total
    return dense - experts, experts // layout.expert


def _ends(model: configs.ModelConfig, share: configs.ModelConfig, layout: Layout, first: bool, last: bool) -> int:
    """Parameters of embedding, final norms and head, and the stacks' own tables. A tied table is on the first and on
    the last device of a pipeline."""
    width, parts = share.embedding.width, sizes_of_parts(share)
    biases = [(stack.relative_bias, stack.blocks[0].attention.heads) for stack in share.stacks]
    count = sum(bias.buckets * heads for bias, heads in biases if bias is not None)  # every device of a pipeline has it
    if first:
        count += sum(size.total for part, size in parts.items() if part.endswith("embedding"))
    if not last:
        return count
    count += sum(norms_size(stack.final_norm, width).total for stack in share.stacks)
    count += parts["head"].total if "head" in parts else 0
    if isinstance(model.head, configs.MultiTokenHead) and isinstance(share.head, configs.MultiTokenHead):
        counted = sum(block_sizes(share.head.block, width).values(), Size()).total  # but for experts and key heads
        count += share.head.depth * (sum(_parameters(model.head.block, width, layout)) - counted)
    return count + (share.embedding.vocabulary * width if head_reads_tokens(share.head) and not first else 0)
