"""Adapters put into the weights: they cost nothing in use any more, and there is no way back, for weights are rounded.

merged = merge_adapter(model)
print(merge_difference(model, merged, ids))  # what the rounding does to the logits
"""

from typing import Any

import torch
from torch import Tensor, nn

from lmworks.adapt.layers import AdapterLinear, frozen_copy
from lmworks.adapt.lora import EMBEDDING, HEAD, Lora, check_fits, untie
from lmworks.adapt.lora_layers import LoraHead
from lmworks.model.quantised_linear import QuantisedLinear
from lmworks.model.transformer import Transformer, empty_model, sharing_copy


@torch.no_grad()
def merge_adapter(model: Transformer, requantise: bool = False) -> Transformer:
    """The model with its adapters in the weights: LoRA, DoRA, IA³; in float32, and rounded once to a weight's dtype.

    `model` stays as it is; what no adapter changes is shared with it. A tied head next to a changed embedding, or the
    other way round, is tied no longer, in the config too.

    requantise  Whether weights that are quantised are, with the change, quantised again, which may round it away.

    ValueError for what is no change of weights, a prefix or a bottleneck, and for quantised weights otherwise.
    """
    merged = frozen_copy(model).requires_grad_(True)
    if isinstance(merged.embedding.tokens, AdapterLinear):
        untie(merged)
    for name, layer in reversed(list(merged.named_modules())):  # a head's projection before the head
        if isinstance(layer, AdapterLinear):
            plain = layer.merged()
            if isinstance(plain, QuantisedLinear) and not requantise:
                raise ValueError(
                    f"{name} is quantised, and would be again: load the base in 16 bits and merge into that, or give "
                    "requantise=True and look at merge_difference"
                )
            merged.set_submodule(name, plain)
        elif isinstance(layer, LoraHead):
            merged.set_submodule(name, layer.merged())
    known = empty_model(merged.config).state_dict().keys()
    if strange := [name for name in merged.state_dict() if name not in known]:
        raise ValueError(f"{strange[0]} is no change of a weight, so it cannot be merged: keep it as an adapter")
    return merged


def merge_difference(beside: Transformer, merged: Transformer, ids: Tensor, **inputs: Any) -> float:
    """The largest absolute difference of what two models give for `ids` (batch, length), such as their logits; `inputs`
    as in `Transformer.forward`."""
    with torch.inference_mode():
        return float((beside(ids, **inputs).float() - merged(ids, **inputs).float()).abs().max())


@torch.no_grad()
def merge(model: Transformer, lora: Lora) -> Transformer:
    """The model with W + scale · B A for W (Hu et al. 2021, section 4.1), or DoRA's W', as `merge_adapter` makes it;
    also of layers next to which no adapter is computed, such as routers. ValueError for an adapter of another model.
    """
    check_fits(lora, model.config)
    merged = sharing_copy(model)
    if lora.changes.keys() & {HEAD, EMBEDDING}:
        untie(merged)
    for name, change in lora.changes.items():
        layer = merged.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        changed = change.merged(weight.T).T.contiguous() if name == EMBEDDING else change.merged(weight)
        layer.weight = nn.Parameter(changed, requires_grad=weight.requires_grad)
    return merged
