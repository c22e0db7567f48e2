"""A LoRA adapter as a value: two thin matrices for each layer that it changes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmworks.model.config import LanguageModelHead, ModelConfig
from lmworks.model.weights import empty_model

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
    if isinstance(config.head, LanguageModelHead):
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
