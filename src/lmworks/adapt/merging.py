"""An adapter added into the weights, so that it costs nothing any more."""

import torch
from torch import nn

from lmworks.adapt.lora import HEAD, Lora, check_fits
from lmworks.adapt.untying import untie
from lmworks.model.sharing import sharing_copy
from lmworks.model.transformer import Transformer


@torch.no_grad()
def merge(model: Transformer, lora: Lora) -> Transformer:
    """The model with W + scale · B A for W (Hu et al. 2021, section 4.1), rounded once, from float32, to W's dtype.

    `model` stays as it is. What the adapter does not change is shared with it, not copied. A tied head that is changed
    is tied no longer, in the config too. ValueError for an adapter of another model.
    """
    check_fits(lora, model.config)
    merged = sharing_copy(model)
    if HEAD in lora.changes:
        untie(merged)
    for name, change in lora.changes.items():
        layer = merged.get_submodule(name)
        assert isinstance(layer.weight, nn.Parameter)
        weight, product = layer.weight, change.product().to(layer.weight.device)
        summed = (weight.to(product.dtype) if weight.dtype.itemsize < 4 else weight) + product
        layer.weight = nn.Parameter(summed.to(weight.dtype), requires_grad=weight.requires_grad)
    return merged
