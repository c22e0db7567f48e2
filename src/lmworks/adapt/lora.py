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
from lmworks.adapt.dora import direction_factor
from lmworks.model.config import LanguageModelHead as HeadConfig
from lmworks.model.config import ModelConfig, VocabularyHead
from lmworks.model.heads import LanguageModelHead
from lmworks.model.transformer import Transformer, empty_model

HEAD = "head.projection"  # the head's matrix; of a tied head, which has none of its own, the token embedding in its use
EMBEDDING = "embedding.tokens"  # in its use as a table: a layer from one-hot ids to vectors, whose W is the table's Wᵀ


class LowRank(NamedTuple):
    """A change of one linear layer: y = W x becomes W x + scale · B A x (Hu et al. 2021, equation 3).

    a (r, in) and b (out, r), floating point.
    magnitude (out,): the lengths that the rows of W + scale · B A are brought to (DoRA, see dora.py).
    """

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def product(self) -> Tensor:
        """scale · B A, (out, in), in float32 at least."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        return self.b.to(wide) @ self.a.to(wide) * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """`weight` W (out, in) with the change in it, rounded once, from float32 at least, to W's dtype."""
        product = self.product().to(weight.device)
        summed = (weight.to(product.dtype) if weight.dtype.itemsize < 4 else weight) + product
        if self.magnitude is not None:
            summed *= direction_factor(self.magnitude.to(summed), torch.linalg.vector_norm(summed, dim=1))[:, None]
        return summed.to(weight.dtype)


@dataclass(frozen=True, eq=False)
class Lora:
    """A whole adapter: `changes` of layers by our module names, such as `decoder.blocks.3.attention.query`.

    ValueError for matrices that are no pair.
    """

    changes: Mapping[str, LowRank]

    def __post_init__(self) -> None:
        for name, (a, b, _, magnitude) in self.changes.items():
            if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or not len(a):
                shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
                raise ValueError(f"{name}: A is (r, in) and B is (out, r), got {shapes}")
            if magnitude is not None and magnitude.shape != b.shape[:1]:
                raise ValueError(f"{name}: the magnitude is ({len(b)},), got {tuple(magnitude.shape)}")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, scales, shapes and values, these as float32: of float16 and bfloat16 that is exact."""
        digest = hashlib.sha256()
        for name in sorted(self.changes):
            a, b, scale, magnitude = self.changes[name]
            digest.update(json.dumps([name, scale, a.shape, b.shape]).encode())
            for tensor in (a, b) if magnitude is None else (a, b, magnitude):
                digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()


def check_plain(lora: Lora) -> None:
    """ValueError for what no two adapters can do next to the same weights: DoRA and changes of the embedding."""
    for name, change in lora.changes.items():
        if name == EMBEDDING or change.magnitude is not None:
            kind = "an adapter of the embedding" if change.magnitude is None else "DoRA"
            raise ValueError(f"{name}: {kind} is not computed next to shared weights: `merge` it into its own model")


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every layer of `Transformer(config)` that an adapter can change → (out, in): linear layers, the head's too, and
    the embedding, unless an encoder and a decoder share it."""
    modules = empty_model(config).named_modules()
    shapes = {name: (m.out_features, m.in_features) for name, m in modules if isinstance(m, nn.Linear)}
    if isinstance(config.head, HeadConfig):
        shapes[HEAD] = config.embedding.vocabulary, config.embedding.width
    if len(config.stacks) == 1:
        shapes[EMBEDDING] = config.embedding.width, config.embedding.vocabulary
    return shapes


def no_target(targets: object, config: ModelConfig) -> ValueError:
    """For `target_modules` that fit nothing: names the layers that there are."""
    ends = dict.fromkeys(".".join(name.split(".")[-2:]) for name in layer_shapes(config))
    return ValueError(f"target_modules {targets} name no linear layer of this model, which has {', '.join(ends)}")


def check_fits(lora: Lora, config: ModelConfig) -> None:
    """ValueError names the layers that the model lacks, or else the first whose sizes are others."""
    shapes = layer_shapes(config)
    if unknown := sorted(lora.changes.keys() - shapes.keys()):
        raise ValueError(f"the adapter is of another model: this one has no linear layers {', '.join(unknown[:5])}")
    for name, (a, b, *_) in lora.changes.items():
        shape = b.shape[0], a.shape[1]
        if shape != shapes[name]:
            raise ValueError(
                f"the adapter is of another model: its {name} goes from {shape[1]} to {shape[0]} values, "
                f"this model's from {shapes[name][1]} to {shapes[name][0]}"
            )


def untie(model: Transformer) -> None:
    """Gives a tied head, in place, a projection of its own, whose weight still is the token embedding's parameter.

    ValueError for a head that is tied and can be nothing else, as those of masked language models."""
    config = model.config.head
    if not isinstance(config, VocabularyHead) or (isinstance(config, HeadConfig) and not config.tied):
        return
    if not isinstance(config, HeadConfig) or not isinstance(model.head, LanguageModelHead):
        raise ValueError(f"the head stays tied to the embedding, and so must have the same weight: exclude {EMBEDDING}")
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
    Of the embedding it is A that is zero, and B normal, as in PEFT. Names in `config` are ours. ValueError when it
    targets no layer, or asks for dropout, or for DoRA, whose magnitudes are the model's (`add_lora`).
    """
    if config.lora_dropout:
        raise ValueError(
            "adapters are trained without dropout, whose numbers no checkpoint holds: set lora_dropout to 0"
        )
    if config.use_dora:
        raise ValueError("DoRA begins with the lengths of the weights' rows: use add_lora, which has the model")
    changes: dict[str, LowRank] = {}
    for name, (outputs, inputs) in layer_shapes(model_config).items():
        if config.targets(name):
            rank, bound = config.rank(name), inputs**-0.5
            a = torch.zeros(rank, inputs, device=generator.device)
            b = torch.zeros(outputs, rank, device=generator.device)
            if name == EMBEDDING:
                b.normal_(generator=generator)
            else:
                a.uniform_(-bound, bound, generator=generator)
            changes[name] = LowRank(a, b, config.scale(name))
    if not changes:
        raise no_target(config.target_modules, model_config)
    return Lora(changes)
