"""SmoothQuant: move the range of a few outlier channels of the activations into the weights, so that both can be
rounded to 8 bits (Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for LLMs").

s_j = max|X_j|^α / max|W_j|^(1-α) divides the inputs and multiplies the weights (equation 4). The engine rounds
activations to int8 in groups of 32 columns as it runs, which an outlier spoils 31 neighbours of;
`rounded_activations` simulates the coarser grid of one scale a token, which GPUs multiply.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lmworks.compress.block_calibration import CalibratedBlock, InputStatistics, linear_names
from lmworks.compress.channel_scales import fold, sites
from lmworks.compress.config import SmoothQuantConfig
from lmworks.model.transformer import Transformer


def smooth_block(block: CalibratedBlock, statistics: Mapping[str, InputStatistics], config: SmoothQuantConfig) -> None:
    """Fold SmoothQuant's scales into a block that sees inputs of these statistics, in place; these become those of the
    scaled inputs."""
    for site in sites(block.block):
        names = [f"{block.name}.{layer}" for layer in site.layers]
        own = statistics.get(names[0])
        if own is None:
            continue
        weights = torch.stack([block.linears()[name].weight.detach().abs().amax(0) for name in names]).amax(0)
        inputs, of_weights = site.per_channel(own.largest), site.per_channel(weights)
        scales = inputs.clamp(min=1e-5) ** config.strength / of_weights.clamp(min=1e-5) ** (1 - config.strength)
        scales = scales.clamp(min=1e-4, max=1e4)
        fold(block.block, site, scales)
        own.divide(site.per_column(scales))


@contextmanager
def rounded_activations(model: Transformer, bits: int = 8) -> Iterator[Transformer]:
    """The model, whose linear layers get their inputs rounded to a symmetric grid with one scale a token, simulated in
    floats."""

    def rounded(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (inputs,) = arguments
        scales = inputs.abs().amax(-1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
        return ((inputs / scales).round() * scales,)

    layers = [model.get_submodule(name) for name in linear_names(model)]
    hooks = [layer.register_forward_pre_hook(rounded) for layer in layers]
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()
