"""LSQ: train a model whose weights are rounded in every forward, and the scales of their levels with it (Esser et al.
2020, "Learned Step Size Quantization"; with minimums, Bhalgat et al. 2020, "LSQ+").

    ŵ = round(clip((w - m) / s)) · s + m

The gradient passes the rounding straight through (Bengio et al. 2013): that of s is then q - (w - m) / s where w is
within the levels and q beyond them, that of m is 1 beyond them (equation 3). What is learned is how far s and m have
moved, in units of s, so that one rate suits them and the weights. Scales and minimums are float16 numbers in the
forward already: the matrix that is delivered is the one that was trained.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.artefact import StageContext, StageResult
from lmworks.compress.block_calibration import linears
from lmworks.compress.config import GridConfig, LSQConfig
from lmworks.compress.quantisation import quantised_checkpoint
from lmworks.compress.stage import load_base, write
from lmworks.compress.weight_grid import Grid, fit_grid
from lmworks.kernels.weight_formats import Quantised
from lmworks.model.transformer import Transformer, sharing_copy
from lmworks.train.run import Run
from lmworks.train.train_stages import finetune


class RoundedLinear(nn.Linear):
    """A linear layer, of which `weight` is shared, that multiplies with the rounded weight.

    grown    (rows, groups): ln of what the scales have become, in those of `grid`.
    shifted  (rows, groups): by how much of its first scale each minimum has moved; None where levels have none.
    """

    def __init__(self, layer: nn.Linear, config: GridConfig) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        weight = layer.weight.detach()
        self.grid = fit_grid(weight, config, torch.ones(weight.shape[1]))
        self.grown = nn.Parameter(torch.zeros_like(self.grid.scales))
        self.shifted = nn.Parameter(torch.zeros_like(self.grid.scales)) if config.centre is None else None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        return F.linear(input, self.rounded().to(input.dtype), self.bias)

    def levels(self) -> Grid:
        """The levels as they are now."""
        scales = _half(self.grid.scales * self.grown.float().exp())
        minimums = -(self.grid.config.centre or 0) * scales
        if self.shifted is not None:
            minimums = _half(self.grid.minimums + self.grid.scales * self.shifted.float())
        return Grid(self.grid.config, scales, minimums)

    def rounded(self) -> Tensor:
        """ŵ, (rows, columns) float32, with the gradients above."""
        scales, minimums = self.levels().spread(self.weight.float())
        divisor = torch.where(scales == 0, 1.0, scales)
        q = ((self.weight.float() - minimums) / divisor).clamp(*self.grid.config.levels)
        return _straight_through(q, q.round()) * scales + minimums

    def quantised(self) -> Quantised:
        """The matrix that ŵ is."""
        levels = self.levels()
        return levels.quantised(levels.nearest(self.weight.detach().float()))


def rounded_model(model: Transformer, config: GridConfig) -> Transformer:
    """The model with the same weights, whose projections are `RoundedLinear`s."""
    copied = sharing_copy(model)
    for name, layer in linears(copied).items():
        copied.set_submodule(name, RoundedLinear(layer, config))
    return copied


def _half(values: Tensor) -> Tensor:
    return _straight_through(values, values.half().float())


def _straight_through(values: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `values`."""
    return values + (rounded - values).detach()


# ---------------------------------------------------------------------------------------------------------------------
# The stage


def lsq(config: LSQConfig, context: StageContext) -> StageResult:
    """Quantisation-aware training of the checkpoint of one input, or `config.base`, on the token shards of the others;
    errors as of `train.finetune`."""
    settings = replace(config.tune, base=config.base)
    load_base(config, context)  # whose errors come before any work
    adapt, deliver = partial(rounded_model, config=config.grid), partial(_deliver, config)
    return finetune(settings, context, adapt, deliver)


def _deliver(config: LSQConfig, run: Run, trained: Mapping[str, Tensor], folder: Path) -> None:
    """The trained weights on their trained levels."""
    model = run.model.float()
    model.load_state_dict(dict(trained), strict=False)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, RoundedLinear)}
    matrices = {f"{name}.weight": layer.quantised() for name, layer in layers.items()}
    floats = {name: trained.get(name, weight) for name, weight in run.checkpoint.weights.items()}
    write(quantised_checkpoint(run.checkpoint, matrices, floats, config.embedding_format), folder, config.format)
