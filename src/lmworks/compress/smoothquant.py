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

from lmworks.compress.block_calibration import (
    CalibratedBlock,
    CalibrationText,
    InputStatistics,
    linear_names,
)
from lmworks.compress.channel_scales import fold, sites
from lmworks.compress.config import SmoothQuantConfig
from lmworks.model.transformer import Transformer
from lmworks.report import Section, Table
from lmworks.train.objectives.objective import predict_tokens


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


@torch.no_grad()
def rounding_section(models: Mapping[str, Transformer], text: CalibrationText) -> Section:
    """Section on the cost of `rounded_activations` for language models by name: the loss of the text, in nats a token,
    without and with them."""
    rows = []
    for name, model in models.items():
        losses = [_loss(model, text)]
        with rounded_activations(model):
            losses.append(_loss(model, text))
        rows.append((name, *(f"{loss:.4f}" for loss in losses), f"{losses[1] - losses[0]:+.4f}"))
    table = Table(("model", "loss", "with 8-bit activations", "more"), tuple(rows), "Nats a token, on calibration text")
    return Section("One scale a token", "Simulated, as GPUs multiply; the engine has one for 32 columns.", (table,))


def _loss(model: Transformer, text: CalibrationText) -> float:
    losses = []
    for ids in text.ids[:8].split(text.batch):
        targets = ids[:, 1:]
        found = predict_tokens(model, model.hidden(ids)[:, :-1], targets, torch.ones_like(targets, dtype=torch.bool))
        losses.append(float(found.sum) / found.count)
    return sum(losses) / len(losses)
