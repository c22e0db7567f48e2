"""Bottleneck adapters (Houlsby et al. 2019, section 2.1): small networks after the sub-layers of a frozen model.

    model = add_adapter(checkpoint.model, BottleneckConfig(bottleneck_size=64), seed=0)
    run = Run(checkpoint, objective, loader, settings, folder, adapt=partial(add_adapter, method=BottleneckConfig()))

h becomes h + W_up f(W_down h), where h is what a sub-layer's last projection gives, before the residual sum and before
a norm that follows on it (post-norm, sandwich). An attention and a dense feed-forward end with that projection, so the
adapter is a layer around it; a mixture of experts is taken whole. Houlsby et al. put one after each sub-layer, which in
an encoder–decoder's decoder are three, Pfeiffer et al. (2021) one after the feed-forward, without the further norms
that their search settled on.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.adapt.config import BottleneckConfig
from lmworks.adapt.layers import AdapterLinear, frozen_copy
from lmworks.adapt.peft_folder import CONFIG, PREFIX, peft_header
from lmworks.config import from_mapping
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import write_config
from lmworks.model.mixture_of_experts import ACTIVATIONS, FeedForward
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer


class Bottleneck(AdapterLinear):
    """A layer `base` whose output h, of `width` values, becomes h + up f(down h + down_bias) + up_bias."""

    def __init__(self, base: nn.Module, config: BottleneckConfig, width: int, like: Tensor) -> None:
        super().__init__(base)
        new = {"dtype": like.dtype, "device": like.device}
        self.activation = ACTIVATIONS[config.activation]
        self.down = nn.Parameter(torch.zeros(config.bottleneck_size, width, **new))
        self.down_bias = nn.Parameter(torch.zeros(config.bottleneck_size, **new))
        self.up = nn.Parameter(torch.zeros(width, config.bottleneck_size, **new))
        self.up_bias = nn.Parameter(torch.zeros(width, **new))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, in) → (…, width)."""
        hidden = self.base(input)
        inner = self.activation(F.linear(hidden, self.down, self.down_bias))  # (…, bottleneck_size)
        return hidden + F.linear(inner, self.up, self.up_bias)


def add_bottleneck(model: Transformer, config: BottleneckConfig, generator: torch.Generator) -> Transformer:
    """The model with new adapters, which alone require a gradient; `model` stays, its weights are shared.

    W_down is uniform within ±√(1 / width), W_up is zero: at first it computes what `model` computes (the paper begins
    near that, with weights of 0.01).
    """
    adapted, bound = _with_adapters(model, config), model.config.embedding.width**-0.5
    for layer in adapted.modules():
        if isinstance(layer, Bottleneck):
            down = torch.empty(layer.down.shape, device=generator.device).uniform_(-bound, bound, generator=generator)
            layer.down.data.copy_(down)
    return adapted


def _with_adapters(model: Transformer, config: BottleneckConfig) -> Transformer:
    """With adapters of zeros."""
    adapted, width = frozen_copy(model), model.config.embedding.width
    for stack in filter(None, (adapted.encoder, adapted.decoder)):
        for block in stack.blocks:
            assert isinstance(block, Block)
            layers = ["feed_forward.down" if isinstance(block.feed_forward, FeedForward) else "feed_forward"]
            if config.placement == "houlsby":
                layers += ["attention.output", *([] if block.cross_attention is None else ["cross_attention.output"])]
            for name in layers:
                block.set_submodule(name, Bottleneck(block.get_submodule(name), config, width, model.tokens))
    return adapted


# ---------------------------------------------------------------------------------------------------------------------
# The folder: PEFT has no such adapters, so the names of layers are ours


def bottleneck_to_peft(
    config: BottleneckConfig, weights: Mapping[str, Tensor], checkpoint: Checkpoint
) -> tuple[JsonObject, dict[str, Tensor]]:
    """Adapters as a config and tensors in PEFT's shape; `weights` by the names of `trained_weights`."""
    header = peft_header("BOTTLENECK", write_config(checkpoint.config, checkpoint.published), checkpoint.source)
    tensors = {PREFIX + name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return {**asdict(config), **header}, tensors


def bottleneck_from_peft(checkpoint: Checkpoint, document: Document, tensors: Mapping[str, Tensor]) -> Transformer:
    """The checkpoint's model with the adapters of a folder; ValueError for those of another base, naming the layer."""
    settings = {field.name: document[field.name] for field in fields(BottleneckConfig) if field.name in document}
    adapted = _with_adapters(checkpoint.model, from_mapping(BottleneckConfig, settings, [CONFIG]))
    expected = {PREFIX + name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    if differing := sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"the adapter is of another base: {', '.join(differing[:5])} are in one of the two alone")
    for name, weight in expected.items():
        tensor = tensors[name]
        if weight.shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, {tuple(weight.shape)} here"
            raise ValueError(f"the adapter is of another base: {name} has the shape {shapes}")
        weight.data.copy_(tensor)
    return adapted
