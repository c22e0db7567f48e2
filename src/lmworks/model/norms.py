"""From a norm's config to its module."""

from typing import assert_never

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + eps) * (weight + offset)` (Zhang & Sennrich 2019).

    Computed in float32 at least when there is an offset: near one, bfloat16 tells 1.000 from 1.008 and nothing between.
    """

    def __init__(self, width: int, eps: float, offset: float) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """To a factor of one."""
        nn.init.constant_(self.weight, 1.0 - self.offset)

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.offset:
            return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        weight = self.weight.to(dtype) + self.offset
        return F.rms_norm(hidden.to(dtype), weight.shape, weight, self.eps).to(hidden.dtype)


def build_norm(config: configs.Norm, width: int) -> nn.Module:
    """The normalisation over the last dimension, of size `width`."""
    match config.kind:
        case "layer":
            return nn.LayerNorm(width, eps=config.eps)
        case "rms":
            return RMSNorm(width, config.eps, config.offset)
        case kind:
            assert_never(kind)
