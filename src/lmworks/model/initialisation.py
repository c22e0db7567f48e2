"""Random weights for a new model."""

import torch
from torch import nn

from lmworks.model.transformer import Transformer


@torch.no_grad()
def initialise(model: Transformer, seed: int, std: float = 0.02) -> Transformer:
    """Fills `model` in place: matrices normal with `std` (Radford et al. 2019 use 0.02), biases 0, norm weights 1.

    The values depend on `seed` and the config alone, not on torch's global generator. Returns the same model.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            draws = torch.empty(module.weight.shape).normal_(0.0, std, generator=generator)
            module.weight.copy_(draws)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.reset_parameters()
    return model
