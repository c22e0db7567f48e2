"""A LoRA adapter as a value: two thin matrices for each layer that it changes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmworks.adapt.config import LoraConfig
from lmworks.model.config import LanguageModelHead as HeadConfig
from lmworks.model.config import ModelConfig
from lmworks.model.heads import LanguageModelHead
from lmworks.model.transformer import Transformer, empty_model, sharing_copy

HEAD = "head.projection"  # the head's matrix; of a tied head, which has none of its own, the token embedding in its use


class LowRank(NamedTuple):
    """A change of one linear layer: y = W x becomes W x + scale · B A x (Hu et al. 2021, equation 3).

    a (r, in) and b (out, r), floating point.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def product(self) -> Tensor:
        """scale · B A, (out, in), in float32 at least."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        return self.b.to(wide) @ self.a.to(wide) * self.scale


@dataclass(frozen=True, eq=False)
class Lora:
    """A whole adapter: `changes` of layers by our module names, such as `decoder.blocks.3.attention.query`.

    ValueError for matrices that are no pair.
    """

    changes: Mapping[str, LowRank]

    def __post_init__(self) -> None:
        for name, (a, b, _) in self.changes.items():
            if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or not len(a):
                shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
                raise ValueError(f"{name}: A is (r, in) and B is (out, r), got {shapes}")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, scales, shapes and values, these as float32: of float16 and bfloat16 that is exact."""
        digest = hashlib.sha256()
        for name in sorted(self.changes):
            a, b, scale = self.changes[name]
            digest.update(json.dumps([name, scale, a.shape, b.shape]).encode())
            for tensor in (a, b):
                digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every linear layer of `Transformer(config)` that an adapter can change → (out, in): the head's too."""
    modules = empty_model(config).named_modules()
    shapes = {name: (m.out_features, m.in_features) for name, m in modules if isinstance(m, nn.Linear)}
    if isinstance(config.head, HeadConfig):
        shapes[HEAD] = config.embedding.vocabulary, config.embedding.width
    return shapes


def check_fits(lora: Lora, config: ModelConfig) -> None:
    """ValueError names the layers that the model lacks, or else the first whose sizes are others."""
    shapes = linear_shapes(config)
    if unknown := sorted(lora.changes.keys() - shapes.keys()):
        raise ValueError(f"the adapter is of another model: this one has no linear layers {', '.join(unknown[:5])}")
    for name, (a, b, _) in lora.changes.items():
        found = b.shape[0], a.shape[1]
        if found != shapes[name]:
            raise ValueError(
                f"the adapter is of another model: its {name} goes from {found[1]} to {found[0]} values, "
                f"this model's from {shapes[name][1]} to {shapes[name][0]}"
            )


def untie(model: Transformer) -> None:
    """Gives a tied head, in place, a projection of its own, whose weight still is the token embedding's parameter."""
    config = model.config.head
    if not isinstance(config, HeadConfig) or not isinstance(model.head, LanguageModelHead):
        raise ValueError(f"only a language model's head can be untied, this one is {config}")
    if not config.tied:
        return
    untied = replace(config, tied=False)
    with torch.device("meta"):
        head = LanguageModelHead(untied, model.tokens.shape[1], model.tokens.shape[0])
    assert head.projection is not None and isinstance(model.tokens, nn.Parameter)
    head.projection.weight, head.bias = model.tokens, model.head.bias
    model.head, model.config = head.train(model.training), replace(model.config, head=untied)


def initialise_lora(model_config: ModelConfig, config: LoraConfig, generator: torch.Generator) -> Lora:
    """An adapter for a model, in float32 on the generator's device: A is drawn and B is zero, so that the model still
    computes what it did (Hu et al. 2021, section 4.1).

    A is uniform within ±√(1 / in): He et al. 2015, section 2.2, with a slope of √5, as PyTorch begins a linear layer.
    Names in `config` are ours. ValueError when it targets no layer, or asks for dropout.
    """
    if config.lora_dropout:
        raise ValueError(
            "adapters are trained without dropout, whose numbers no checkpoint holds: set lora_dropout to 0"
        )
    changes: dict[str, LowRank] = {}
    for name, (outputs, inputs) in linear_shapes(model_config).items():
        if config.targets(name):
            rank, bound = config.rank(name), inputs**-0.5
            a = torch.empty(rank, inputs, device=generator.device).uniform_(-bound, bound, generator=generator)
            changes[name] = LowRank(a, torch.zeros(outputs, rank, device=generator.device), config.scale(name))
    if not changes:
        raise ValueError(f"target_modules {config.target_modules} name no linear layer of this model")
    return Lora(changes)


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
