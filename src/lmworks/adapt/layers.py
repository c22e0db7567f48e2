"""A linear layer and what an adapter adds to it: the base class of LoRA's, IA³'s and bottleneck adapters' layers."""

from typing import Any, cast

from torch import Tensor, nn

from lmworks.kernels.packing import pack_weight
from lmworks.model.quantised_linear import QuantisedLinear
from lmworks.model.transformer import Transformer, sharing_copy


class AdapterLinear(nn.Module):
    """A layer around a linear one, `base`, whose weights are frozen: `nn.Linear`, or a quantised layer.

    Its own parameters alone are trained. Weight, bias and sizes are those of `base`.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.train(base.training)

    def merged(self) -> nn.Module:
        """The base, into whose weights the adapter is put, in place. ValueError where it is no change of weights."""
        raise ValueError(f"a {type(self).__name__} is no change of weights and cannot be merged: keep the adapter")

    @property
    def weight(self) -> Tensor:
        return weight_of(self.base)

    @property
    def bias(self) -> Tensor | None:
        return cast(Any, self.base).bias

    @property
    def in_features(self) -> int:
        return cast(Any, self.base).in_features

    @property
    def out_features(self) -> int:
        return cast(Any, self.base).out_features


def frozen_copy(model: Transformer) -> Transformer:
    """A copy whose modules can be replaced, around the same weights, of which none requires a gradient."""

    def frozen(tensor: Tensor) -> Tensor:
        return nn.Parameter(tensor.detach(), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor

    return sharing_copy(model, frozen)


def linear_layer(model: Transformer, name: str) -> nn.Module:
    """The layer of this name, for an adapter to stand around. ValueError for one of another kind, such as a router."""
    layer = model.get_submodule(name)
    if type(layer) not in (nn.Linear, QuantisedLinear):
        kind = type(layer).__name__
        raise ValueError(f"{name} is a {kind}, of which no adapter is learned: leave it out, as by exclude_modules")
    return layer


def weight_of(layer: nn.Module) -> Tensor:
    """The weight (out, in) of a linear layer, or the table of an embedding; of a quantised layer rebuilt, float32."""
    return layer.dequantised() if isinstance(layer, QuantisedLinear) else cast(Any, layer).weight


def with_weight(layer: nn.Module, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """The layer with another weight, and bias if it has one, in place; a quantised layer quantises it again."""
    if isinstance(layer, QuantisedLinear):
        layer.matrix = pack_weight(weight, layer.matrix.format, bias)
    else:
        cast(Any, layer).weight = nn.Parameter(weight)
        if bias is not None:
            cast(Any, layer).bias = nn.Parameter(bias)
    return layer
