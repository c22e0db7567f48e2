"""The parameters that one device holds, part by part, before ZeRO divides them. Free of torch.

Tensor parallelism (Shoeybi et al. 2019, section 3) divides the projections of attention by heads, the feed-forward by
its hidden width and the token vectors by the vocabulary; norms, biases of what is summed afterwards, routers and
learned positions are on every device. With fewer key heads than devices, each device has all of them.
"""

from dataclasses import dataclass

from lmworks.model import config as configs
from lmworks.model.model_costs import attention_size, feed_forward_size, norms_size, sizes_of_parts
from lmworks.train.planning.layout import Layout, check_layout, stage_blocks


@dataclass(frozen=True)
class Held:
    """Parameters of one device. `dense` are the same on every data rank, `experts` are divided by expert parallelism;
    `largest_block` are those of its largest block, of both kinds: what ZeRO-3 gathers at a time. `ends` are those of
    the dense ones that belong to embedding, final norm and head."""

    dense: int
    experts: int
    largest_block: int
    ends: int

    @property
    def total(self) -> int:
        return self.dense + self.experts


def parameters_held(config: configs.ModelConfig, layout: Layout, rank: int = 0) -> Held:
    """The parameters that device `rank` of the pipeline holds, of any tensor rank. A tied table is on the
    first and on the last device of a pipeline. ValueError for a layout that does not fit the model."""
    check_layout(config, layout)
    width = config.embedding.width
    dense = experts = largest = 0
    for block in stage_blocks(config, layout, rank):
        of_block, of_experts = block_parameters(block, width, layout)
        dense, experts = dense + of_block, experts + of_experts
        largest = max(largest, of_block + of_experts)
    ends = _ends(config, layout, first=rank == 0, last=rank == layout.pipeline - 1)
    return Held(dense + ends, experts, largest, ends)


def block_parameters(block: configs.Block, width: int, layout: Layout) -> tuple[int, int]:
    """Parameters of one block on one device: the dense ones, and those of experts."""
    tensor, network = layout.tensor, block.feed_forward
    count = (3 if block.cross else 2) * (2 if block.norm_at == "sandwich" else 1)
    dense = norms_size(block.norm, width, count) + attention_size(block.attention, width, tensor)
    if block.cross is not None:
        dense += attention_size(block.cross, width, tensor)
    if isinstance(network, configs.FeedForward):
        return (dense + feed_forward_size(network, width, tensor)).total, 0
    if network.shared is not None:
        dense += feed_forward_size(network.shared, width, tensor)
    router, expert = width * network.experts, feed_forward_size(network.expert, width, tensor).total
    return dense.total + router, network.experts // layout.expert * expert


def split(count: int, devices: int) -> int:
    """The largest share of `count` things; what does not divide is padded."""
    return -(-count // devices)


def _ends(config: configs.ModelConfig, layout: Layout, first: bool, last: bool) -> int:
    """Embedding, the stack's own tables, final norms and head."""
    width, vocabulary = config.embedding.width, config.embedding.vocabulary
    parts = sizes_of_parts(config)
    table = split(vocabulary, layout.tensor) * width
    count = 0
    if first:
        others = parts["embedding"].total - vocabulary * width
        others += parts["decoder embedding"].total if "decoder embedding" in parts else 0
        count += table + others
    for stack in config.stacks:
        if stack.relative_bias is not None:  # every device of a pipeline needs it
            count += stack.relative_bias.buckets * split(stack.blocks[0].attention.heads, layout.tensor)
    if not last:
        return count
    count += sum(norms_size(stack.final_norm, width).total for stack in config.stacks)
    of_head = _head(config.head, parts["head"].total if "head" in parts else 0, config.embedding, layout)
    return count + of_head + (table if head_reads_tokens(config.head) and not first else 0)


def _head(head: configs.Head | None, total: int, embedding: configs.Embedding, layout: Layout) -> int:
    """Parameters of a head with `total` of them, on one device."""
    width, mine = embedding.width, split(embedding.vocabulary, layout.tensor)
    elsewhere = embedding.vocabulary - mine
    match head:
        case configs.LanguageModelHead(tied, bias):
            return (0 if tied else mine * width) + (mine if bias else 0)
        case configs.MaskedLanguageModelHead() | configs.NextSentenceHead():
            return total - elsewhere
        case configs.SpanBoundaryHead():  # a bias for each of its two predictions
            return total - 2 * elsewhere
        case configs.MultiTokenHead(following, block, norm, depth):
            step = 2 * width * width + norms_size(norm, width, 3).total + sum(block_parameters(block, width, layout))
            return _head(following, 0, embedding, layout) + depth * step
        case _:
            return total


def head_reads_tokens(head: configs.Head | None) -> bool:
    """Whether a head needs the token embedding: as its projection, or to read tokens that were already predicted."""
    if isinstance(head, configs.LanguageModelHead):
        return head.tied
    return isinstance(head, configs.VocabularyHead)
