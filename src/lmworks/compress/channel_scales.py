"""Scales of a layer's input channels, moved into what computes the channels: y = W x = (W s) (x / s).

`x / s` is given by what comes before and is linear in its own weights: the norm in front of queries, keys and values,
and of gate and up; the values, in front of the output projection; the gated half, up, in front of down.

AWQ (Lin et al. 2023) scales up what sees large inputs, so that rounding loses least of it; SmoothQuant (Xiao et al.
2022) moves the range of a few outlier channels of the inputs into the weights, so that both can be rounded to 8 bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmworks.compress.block_calibration import CalibratedBlock, InputStatistics
from lmworks.compress.config import AWQConfig, GridConfig, SmoothQuantConfig
from lmworks.compress.weight_grid import fit_grid
from lmworks.model.mixture_of_experts import FeedForward
from lmworks.model.norms import RMSNorm
from lmworks.model.stack import Block

_STRENGTHS = 21  # α that AWQ tries


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
        return columns.unflatten(0, (-1, self.repeats, self.head_dim)).amax(1).flatten()

    def per_column(self, channels: Tensor) -> Tensor:
        """The inverse: values of the producer's channels for each of the input's, (columns,)."""
        return channels.unflatten(0, (-1, 1, self.head_dim)).expand(-1, self.repeats, -1).flatten()


def sites(block: Block) -> Iterator[Site]:
    """The sites of a block whose channels can be scaled. Not of experts, who share their norm with a router."""
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
    """Multiply the columns of the site's layers by `scales` (channels of the producer,), and divide the producer's, in
    place."""
    for name in site.layers:
        block.get_submodule(name).weight.mul_(site.per_column(scales))  # type: ignore[operator, union-attr]
    match site.producer:
        case RMSNorm() as norm:
            norm.weight.copy_((norm.weight + norm.offset) / scales - norm.offset)
        case nn.LayerNorm() | nn.Linear() as affine:
            affine.weight.div_(scales if affine.weight.ndim == 1 else scales[:, None])
            if affine.bias is not None:
                affine.bias.div_(scales)
        case other:
            raise TypeError(f"no scale can be folded into {other}")


def scale_block(
    block: CalibratedBlock,
    statistics: dict[str, InputStatistics],
    grids: Mapping[str, GridConfig | None],
    method: AWQConfig | SmoothQuantConfig,
) -> None:
    """Fold the method's scales into a block, in place; `statistics` become those of the scaled inputs. `grids` are of
    its layers by their full names; what is not rounded is not scaled."""
    for site in sites(block.block):
        names = [f"{block.name}.{layer}" for layer in site.layers]
        fitted = [grid for name in names if (grid := grids[name]) is not None]
        if names[0] not in statistics or len(fitted) < len(names):
            continue
        weights, inputs = [block.linears()[name].weight.detach() for name in names], statistics[names[0]]
        if isinstance(method, AWQConfig):
            scales = awq_scales(site, weights, inputs, fitted)
        else:
            scales = smoothquant_scales(site, weights, inputs, method)
        fold(block.block, site, scales)
        statistics |= dict.fromkeys(names, inputs.divided(site.per_column(scales)))


def awq_scales(site: Site, weights: list[Tensor], inputs: InputStatistics, grids: list[GridConfig]) -> Tensor:
    """s = a^α of the inputs' mean magnitudes a (Lin et al., equation 5), (channels of the producer,), with the α of the
    least tr((Ŵ - W) E[x xᵀ] (Ŵ - W)ᵀ), the mean squared error of the outputs on the calibration text."""
    assert inputs.second_moment is not None
    magnitudes = site.per_channel(inputs.mean_absolute).clamp(min=1e-8)
    tried = []
    for strength in torch.linspace(0, 1, _STRENGTHS).tolist():
        scales = magnitudes**strength
        scales = (scales / (scales.max() * scales.min()).sqrt()).clamp(min=1e-4, max=1e4)
        columns, error = site.per_column(scales), 0.0
        for weight, grid in zip(weights, grids, strict=True):
            levels = fit_grid(weight * columns, grid)
            change = levels.levels(levels.nearest(weight * columns)) / columns - weight
            error += float(((change @ inputs.second_moment) * change).sum())
        tried.append((error, scales))
    return min(tried, key=lambda pair: pair[0])[1]


def smoothquant_scales(site: Site, weights: list[Tensor], inputs: InputStatistics, config: SmoothQuantConfig) -> Tensor:
    """s_j = max|X_j|^α / max|W_j|^(1-α) (Xiao et al., equation 4), (channels of the producer,)."""
    reach = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
    of_inputs, of_weights = (site.per_channel(magnitudes).clamp(min=1e-5) for magnitudes in (inputs.largest, reach))
    return (of_inputs**config.strength / of_weights ** (1 - config.strength)).clamp(min=1e-4, max=1e4)
