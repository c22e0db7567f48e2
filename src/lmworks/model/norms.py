"""From a norm's config to its module."""

from typing import assert_never

from torch import nn

from lmworks.model import config as configs


def build_norm(config: configs.Norm, width: int) -> nn.Module:
    """The normalisation over the last dimension, of size `width`."""
    match config.kind:
        case "layer":
            return nn.LayerNorm(width, eps=config.eps)
        case "rms":
            return nn.RMSNorm(width, eps=config.eps)
        case kind:
            assert_never(kind)
