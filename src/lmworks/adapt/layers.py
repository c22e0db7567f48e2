"""A linear layer and what an adapter adds to it: the base class of LoRA's, IA³'s and bottleneck adapters' layers."""

from typing import Any, cast

from torch import Tensor, nn

from lmworks.model.transformer import Transformer, sharing_copy


class AdapterLinear(nn.Module):
    """A layer around a linear one, `base`, whose weights are frozen: `nn.Linear`, a quantised layer or another adapter.

    Its own parameters alone are trained. Weight, bias and sizes are those of `base`.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        return cast(Any, self.base).weight  # (out, in)

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
