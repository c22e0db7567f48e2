"""Scales of a layer's input channels, moved into what computes the channels: the function of the block stays, what is
large and what is small in it changes.

    y = W x = (W s) (x / s)

`x / s` is given by whatever comes before and is linear in its own weights: the norm in front of queries, keys and
values, and of gate and up; the values, in front of the output projection; the gated half, up, in front of down.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmworks.model.feed_forward import FeedForward
from lmworks.model.norms import RMSNorm
from lmworks.model.stack import Block


@dataclass(frozen=True)
class Site:
    """Layers with one input, and what gives it.

    layers    names in the block; they share columns.
    producer  the norm, or the linear layer, whose outputs (or rows) are the input's channels.
    repeats   query heads that share a head of values: so often the producer's channels occur in the input.
    head_dim  channels of a head of values.
    """

    layers: tuple[str, ...]
    producer: nn.Module
    repeats: int = 1
    head_dim: int = 1

    def per_channel(self, columns: Tensor) -> Tensor:
        """Values of the input's channels (columns,) as values of the producer's: the largest of those that share."""
        if self.repeats == 1:
            return columns
        return columns.unflatten(0, (-1, self.repeats, self.head_dim)).amax(1).flatten()

    def per_column(self, channels: Tensor) -> Tensor:
        """The inverse: values of the producer's channels for each of the input's, (columns,)."""
        if self.repeats == 1:
            return channels
        return channels.unflatten(0, (-1, 1, self.head_dim)).expand(-1, self.repeats, -1).flatten()


def sites(block: Block) -> Iterator[Site]:
    """The sites of a block whose channels can be scaled: those behind a norm need it in front of them, `down` a gate,
    which is linear in up; experts have their own gates, and share their norm with a router."""
    attention, before = block.attention, block.norm_at != "post"
    if before:
        yield Site(("attention.query", "attention.key", "attention.value"), block.attention_norm)
    config = attention.config
    yield Site(("attention.output",), attention.value, config.heads // config.kv_heads, config.head_dim)
    network = block.feed_forward
    if isinstance(network, FeedForward):
        if before:
            gates = ("feed_forward.up",) if network.gate is None else ("feed_forward.gate", "feed_forward.up")
            yield Site(gates, block.feed_forward_norm)
        if network.gate is not None:
            yield Site(("feed_forward.down",), network.up)


@torch.no_grad()
def fold(block: Block, site: Site, scales: Tensor) -> None:
    """Multiply the columns of the site's layers by `scales` (channels of the producer,), above 0, and divide what gives
    their input, in place."""
    for name in site.layers:
        block.get_submodule(name).weight.mul_(site.per_column(scales))  # type: ignore[operator, union-attr]
    match site.producer:
        case RMSNorm() as norm:
            norm.weight.copy_((norm.weight + norm.offset) / scales - norm.offset)
        case nn.LayerNorm() as norm:
            norm.weight.div_(scales)
            norm.bias.div_(scales)
        case nn.Linear() as linear:
            linear.weight.div_(scales[:, None])
            if linear.bias is not None:
                linear.bias.div_(scales)
        case other:
            raise TypeError(f"no scale can be folded into {other}")
