"""The weights of a model under a family's names: what each tensor is called there, and how fused ones are cut."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.model.config import ModelConfig
from lmworks.model.huggingface import Document, Family, Fused, family_of
from lmworks.model.tensor_files import LazyTensors, write_tensors
from lmworks.model.transformer import Transformer


class Place(NamedTuple):
    """Our names of one of their tensors, and how it is cut when they are several."""

    ours: tuple[str, ...]
    fused: Fused | None


def write_weights(folder: Path, model: Transformer, document: Document, shard_size: int) -> None:
    """Writes safetensors under the names of the family that `document`, the config.json, says; see `write_tensors`."""
    weights = model.state_dict()
    shapes = {name: tensor.to("meta") for name, tensor in weights.items()}
    sizes = {name: tensor.nbytes for name, tensor in to_their_names(model.config, document, shapes).items()}
    write_tensors(folder, to_their_names(model.config, document, weights), sizes, shard_size)


def to_our_names(config: ModelConfig, document: Document, theirs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A family's tensors as the parameters of `Transformer(config)`; `document` is the config.json.

    Each is taken from `theirs` when it is asked for, and has the shape that the config asks for: ValueError names one
    that has not. A ValueError here lists tensors that are missing, and tensors that have no place in the model, which
    would be lost.
    """
    family = family_of(document["model_type"])
    places = places_of(config, document)
    short = _without_prefix(family, theirs, places)
    _drop_copies(family, document, short, places, theirs)
    missing, unknown = sorted(places.keys() - short), sorted(short.keys() - places.keys())
    if missing or unknown:
        raise ValueError(f"the weights do not fit config.json: missing {missing[:5]}, without a place {unknown[:5]}")
    shapes = empty_model(config).state_dict()
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, place in places.items():
        shape = _join(place, shapes, config).shape
        for part, ours in enumerate(place.ours):
            readers[ours] = partial(_part, theirs, short[name], shape, place, part, config)
    return LazyTensors(readers)


def to_their_names(config: ModelConfig, document: Document, ours: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The inverse of `to_our_names`; every tensor is contiguous."""
    family = family_of(document["model_type"])
    architecture = family.architecture(document)
    head = tuple(architecture.modules.values())
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, place in places_of(config, document).items():
        of_head = any(name == module or name.startswith(f"{module}.") for module in head)
        full = name if of_head or architecture.bare else family.prefix + name
        readers[full] = partial(_join, place, ours, config)
    return LazyTensors(readers)


def _part(
    theirs: Mapping[str, Tensor], name: str, shape: torch.Size, place: Place, part: int, config: ModelConfig
) -> Tensor:
    tensor = theirs[name]
    if tensor.shape != shape:
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, config.json asks for {tuple(shape)}")
    return tensor if place.fused is None else place.fused.split(tensor, config)[part]


def _join(place: Place, ours: Mapping[str, Tensor], config: ModelConfig) -> Tensor:
    parts = [ours[name] for name in place.ours]
    return (parts[0] if place.fused is None else place.fused.join(parts, config)).contiguous()


def empty_model(config: ModelConfig) -> Transformer:
    """The model without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return Transformer(config)


def places_of(config: ModelConfig, document: Document) -> dict[str, Place]:
    """Their tensor names, without the family's prefix, and what each becomes here."""
    family = family_of(document["model_type"])
    special = {**family.variant(config), **family.architecture(document).modules}
    fused = {ours: part for part in family.fused for ours in part.ours}
    places: dict[str, Place] = {}
    for name in empty_model(config).state_dict():
        template, numbers = _template(name)
        module, _, parameter = template.rpartition(".")
        if template in fused:
            places[fused[template].theirs.format(*numbers)] = Place((name,), fused[template])
        elif template in special or template in family.modules:  # a parameter that is called otherwise there
            places[_their_name(family, special, template, numbers)] = Place((name,), None)
        elif module in fused:
            part = fused[module]
            ours = tuple(f"{other.format(*numbers)}.{parameter}" for other in part.ours)
            places[f"{part.theirs.format(*numbers)}.{parameter}"] = Place(ours, part)
        else:
            places[f"{_their_name(family, special, module, numbers)}.{parameter}"] = Place((name,), None)
    return places


def _their_name(family: Family, special: Mapping[str, str], ours: str, numbers: list[str]) -> str:
    theirs = special[ours] if ours in special else family.modules[ours]
    return theirs.removeprefix(family.prefix).format(*numbers)


def _template(name: str) -> tuple[str, list[str]]:
    """`decoder.blocks.3.attention` → `decoder.blocks.{}.attention` and its numbers."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "{}", name), re.findall(r"(?<=\.)\d+(?=\.)", name)


def _without_prefix(family: Family, theirs: Mapping[str, Tensor], places: Mapping[str, Place]) -> dict[str, str]:
    """Their names without the family's prefix, which files have or have not, and the names as they are."""
    short: dict[str, str] = {}
    for full in theirs:
        name = full.removeprefix(family.prefix)
        for older, today in family.renamed.items():
            name = name.removesuffix(older) + today if name.endswith(older) else name
        if name not in places and re.fullmatch(family.ignored, name):
            continue
        if name in short:
            raise ValueError(f"{short[name]} and {full} are the same tensor of a {family.model_type} model: keep one")
        short[name] = full
    return short


def _drop_copies(
    family: Family,
    document: Document,
    short: dict[str, str],
    places: Mapping[str, Place],
    theirs: Mapping[str, Tensor],
) -> None:
    """Some files store a tied head, or another of the family's `copies`, a second time, or only the copy; ValueError
    when they differ."""
    embedding = f"{family.modules['embedding.tokens']}.weight"
    architecture = family.architecture(document)
    head = f"{architecture.modules.get('head.projection', 'lm_head')}.weight"
    for copy, original in {head: embedding, **family.copies}.items():
        if copy in short and copy not in places:
            full = short.pop(copy)
            if original not in short and (copy in family.copies or not architecture.bare):
                short[original] = full
            elif original in short and not torch.equal(theirs[full], theirs[short[original]]):
                raise ValueError(f"the model ties them, but {full} differs from {short[original]}")
