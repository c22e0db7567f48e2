"""A family's linear layers under the names that PEFT has for them, and adapters of layers that are several here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.adapt.lora import HEAD, LowRank, linear_shapes
from lmworks.model.config import ModelConfig
from lmworks.model.huggingface import Document, family_of
from lmworks.model.weights import Place, places_of


class Part(NamedTuple):
    """One of our linear layers within one of theirs: `rows` (out,) int64 are its outputs' numbers there."""

    name: str
    rows: Tensor


@dataclass(frozen=True)
class TheirLinear:
    """One of their linear layers.

    name         in the whole model, as a PEFT adapter of it says.
    bare         the same without the family's prefix, as an adapter of the bare model says.
    shape        (out, in).
    transposed   the matrix is stored as (in, out), which does not concern an adapter's.
    """

    name: str
    bare: str
    shape: tuple[int, int]
    parts: tuple[Part, ...]
    transposed: bool = False


def their_linears(config: ModelConfig, document: Document) -> list[TheirLinear]:
    """All that an adapter may change, in the model's order; `document` is the config.json, which names the family."""
    family = family_of(document["model_type"])
    architecture = family.architecture(document)
    shapes = linear_shapes(config)
    found: list[TheirLinear] = []
    for tensor, place in places_of(config, document).items():
        ours = [name.removesuffix(".weight") for name in place.ours]
        if all(name.endswith(".weight") for name in place.ours) and shapes.keys() >= set(ours):
            bare = tensor.removesuffix(".weight")
            of_head = bare in architecture.modules.values()
            full = bare if architecture.bare or of_head else family.prefix + bare
            found.append(_linear(full, bare, ours, place, shapes, config))
    head = architecture.modules.get(HEAD, "lm_head")
    if HEAD in shapes and all(linear.bare != head for linear in found):  # tied: an adapter of its use as a projection
        found.append(TheirLinear(head, head, shapes[HEAD], (Part(HEAD, torch.arange(shapes[HEAD][0])),)))
    return found


def _linear(
    name: str, bare: str, ours: Sequence[str], place: Place, shapes: Mapping[str, tuple[int, int]], config: ModelConfig
) -> TheirLinear:
    outputs, inputs = sum(shapes[part][0] for part in ours), shapes[ours[0]][1]
    numbers = torch.arange(outputs)
    if place.fused is None:
        return TheirLinear(name, bare, (outputs, inputs), (Part(ours[0], numbers),))
    rows = place.fused.split(numbers, config)  # a bias is cut as the matrix's outputs are
    whole = place.fused.join([torch.empty(shapes[part], device="meta") for part in ours], config)
    transposed = tuple(whole.shape) != (outputs, inputs)
    return TheirLinear(name, bare, (outputs, inputs), tuple(map(Part, ours, rows)), transposed)


def cut(linear: TheirLinear, change: LowRank) -> dict[str, LowRank]:
    """Their adapter as ours: all parts share its A, and each has its own rows of B."""
    if len(linear.parts) == 1:
        return {linear.parts[0].name: change}
    return {name: LowRank(change.a, change.b[rows], change.scale) for name, rows in linear.parts}


def join(linear: TheirLinear, changes: Mapping[str, LowRank]) -> LowRank | None:
    """The inverse; None where no part has an adapter.

    Parts with an A and scale of their own are put side by side: the rank is the sum of theirs, and B is zero where a
    part's outputs meet another's rank.
    """
    found = [(rows, changes[name]) for name, rows in linear.parts if name in changes]
    if not found:
        return None
    if len(linear.parts) == 1:
        return found[0][1]
    outputs = linear.shape[0]
    rows, (a, b, scale) = found[0]
    if all(change.scale == scale and torch.equal(change.a, a) for _, change in found):
        joined = b.new_zeros(outputs, a.shape[0])
        for rows, change in found:
            joined[rows] = change.b
        return LowRank(a, joined, scale)
    joined, start = b.new_zeros(outputs, sum(change.rank for _, change in found)), 0
    for rows, change in found:
        joined[rows, start : start + change.rank] = change.b * change.scale
        start += change.rank
    return LowRank(torch.cat([change.a for _, change in found]), joined, 1.0)
