"""Hugging Face's model folders: `config.json` and the names of tensors, in both directions.

Each family is a value (`families/`). Writing asks every family to express a config and takes the first one that reads
back as the very same config; our own `model_type` expresses all of them. Tensors keep the names that the family has for
them; what is one tensor there and several here is cut and put together.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmworks.config import from_mapping, to_mapping
from lmworks.model.config import ModelConfig, PoolHead, UnsupportedModel
from lmworks.model.families import FAMILIES
from lmworks.model.families.family import Document, Family, Fused, JsonObject
from lmworks.model.tensor_files import LazyTensors, write_tensors
from lmworks.model.transformer import Transformer, empty_model


def read_config(document: Document, pool: PoolHead | None = None) -> ModelConfig:
    """The architecture that a `config.json` describes; `pool` is the head of an embedding model, which it does not.

    UnsupportedModel names the first field whose value is not supported, or that is missing; ValueError a value of
    another type than the config has.
    """
    family = family_of(document.get("model_type"))
    try:
        config = from_mapping(ModelConfig, to_mapping(family.read(document)))  # which checks every type
    except KeyError as error:
        raise UnsupportedModel(f"config.json of a {family.model_type} model lacks {error}") from error
    except UnsupportedModel:
        raise
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:  # what no model can have
        raise ValueError(f"config.json does not describe a {family.model_type} model: {error}") from error
    return config if pool is None else replace(config, head=pool)


def write_config(config: ModelConfig, like: Document | None = None) -> JsonObject:
    """The `config.json` of an architecture.

    `like` is a config.json to keep to: it is given back as it is where it describes this very config. Otherwise its
    family is preferred, and its other fields, about which we know nothing, are kept.
    """
    pool = config.head if isinstance(config.head, PoolHead) else None
    if like is not None and read_config(like, pool) == config:
        return dict(like)
    preferred = () if like is None else (family_of(like.get("model_type")),)
    for index, family in enumerate((*preferred, *FAMILIES)):
        fields = dict(like) if like is not None and index == 0 else {}
        for architecture in family.architectures:
            try:
                document = fields | family.write(config if pool is None else replace(config, head=None), architecture)
                if read_config(document, pool) == config:
                    return document
            except (AttributeError, KeyError, StopIteration, TypeError, ValueError):  # not of this family
                continue
    raise UnsupportedModel(f"no family can express this config: {config}")


def family_of(model_type: Any) -> Family:
    """The family of a `model_type`; UnsupportedModel lists the known ones."""
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise UnsupportedModel(f"model_type {model_type!r} is not supported; supported: {known}")


# ---------------------------------------------------------------------------------------------------------------------
# Tensors


_NUMBER = r"(?<=\.)\d+(?=\.)"


class TensorMapping(NamedTuple):
    """Our names of one of their tensors, and how it is cut when they are several."""

    ours: tuple[str, ...]
    fused: Fused | None


def write_weights(folder: Path, model: Transformer, document: Document, shard_size: int) -> None:
    """Writes safetensors under the names of the family that `document`, the config.json, says; see `write_tensors`.
    Errors are those of `whole_weights`."""
    weights = whole_weights(model)
    shapes = {name: tensor.to("meta") for name, tensor in weights.items()}
    sizes = {name: tensor.nbytes for name, tensor in to_their_names(model.config, document, shapes).items()}
    write_tensors(folder, to_their_names(model.config, document, weights), sizes, shard_size)


def whole_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights of a model by name. ValueError where an adapter stands next to them, or layers are packed: a file of
    the model would lack these."""
    weights = model.state_dict()
    if strange := sorted(weights.keys() ^ empty_model(model.config).state_dict().keys()):
        raise ValueError(f"the model is not whole ({strange[0]}): merge its adapter, or save the adapter and the base")
    return weights


def to_our_names(config: ModelConfig, document: Document, their_weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A family's tensors as the parameters of `Transformer(config)`; `document` is the config.json.

    Each is taken from `their_weights` when it is asked for, and has the shape of the config: ValueError names one
    that has not. A ValueError here lists tensors that are missing, and tensors that have no place in the model, which
    would be lost.
    """
    family = family_of(document["model_type"])
    mappings = tensor_mappings(config, document)
    short = _without_prefix(family, their_weights, mappings)
    # Second copies of tied tensors (the head, or the family's `copies`), which some files store, or store alone.
    embedding = f"{family.modules['embedding.tokens']}.weight"
    architecture = family.architecture(document)
    head = f"{architecture.modules.get('head.projection', 'lm_head')}.weight"
    for copy, original in {head: embedding, **family.copies}.items():
        if copy in short and copy not in mappings:
            full = short.pop(copy)
            if original not in short and (copy in family.copies or not architecture.bare):
                short[original] = full
            elif original in short and not torch.equal(their_weights[full], their_weights[short[original]]):
                raise ValueError(f"the model ties them, but {full} differs from {short[original]}")
    missing, unknown = sorted(mappings.keys() - short), sorted(short.keys() - mappings.keys())
    if missing or unknown:
        raise ValueError(f"the weights do not fit config.json: missing {missing[:5]}, without a place {unknown[:5]}")
    shapes = empty_model(config).state_dict()
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, mapping in mappings.items():
        shape = _join(mapping, shapes, config).shape
        for index, our_name in enumerate(mapping.ours):
            readers[our_name] = partial(_part, their_weights, short[name], shape, mapping, index, config)
    return LazyTensors(readers)


def to_their_names(config: ModelConfig, document: Document, ours: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The inverse of `to_our_names`; every tensor is contiguous."""
    family = family_of(document["model_type"])
    architecture = family.architecture(document)
    head = tuple(architecture.modules.values())
    readers: dict[str, Callable[[], Tensor]] = {}
    for name, mapping in tensor_mappings(config, document).items():
        of_head = any(name == module or name.startswith(f"{module}.") for module in head)
        full = name if of_head or architecture.bare else family.prefix + name
        readers[full] = partial(_join, mapping, ours, config)
    return LazyTensors(readers)


def _part(
    their_weights: Mapping[str, Tensor],
    name: str,
    shape: torch.Size,
    mapping: TensorMapping,
    index: int,
    config: ModelConfig,
) -> Tensor:
    tensor = their_weights[name]
    if tensor.shape != shape:
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, config.json asks for {tuple(shape)}")
    return tensor if mapping.fused is None else mapping.fused.split(tensor, config)[index]


def _join(mapping: TensorMapping, ours: Mapping[str, Tensor], config: ModelConfig) -> Tensor:
    tensors = [ours[name] for name in mapping.ours]
    return (tensors[0] if mapping.fused is None else mapping.fused.join(tensors, config)).contiguous()


def tensor_mappings(config: ModelConfig, document: Document) -> dict[str, TensorMapping]:
    """A mapping from each of their tensor names, without the family's prefix, to our names."""
    family = family_of(document["model_type"])
    special = {**family.variant(config), **family.architecture(document).modules}
    fused = {ours: fusion for fusion in family.fused for ours in fusion.ours}
    mappings: dict[str, TensorMapping] = {}
    for name in empty_model(config).state_dict():
        # `decoder.blocks.3.attention` → `decoder.blocks.{}.attention` and its numbers
        template, numbers = re.sub(_NUMBER, "{}", name), re.findall(_NUMBER, name)
        module, _, parameter = template.rpartition(".")
        if template in fused:
            mappings[fused[template].their_name.format(*numbers)] = TensorMapping((name,), fused[template])
        elif template in special or template in family.modules:  # a parameter that is called otherwise there
            mappings[_their_name(family, special, template, numbers)] = TensorMapping((name,), None)
        elif module in fused:
            fusion = fused[module]
            ours = tuple(f"{our_module.format(*numbers)}.{parameter}" for our_module in fusion.ours)
            mappings[f"{fusion.their_name.format(*numbers)}.{parameter}"] = TensorMapping(ours, fusion)
        else:
            mappings[f"{_their_name(family, special, module, numbers)}.{parameter}"] = TensorMapping((name,), None)
    return mappings


def _their_name(family: Family, special: Mapping[str, str], ours: str, numbers: list[str]) -> str:
    their_module = special[ours] if ours in special else family.modules[ours]
    return their_module.removeprefix(family.prefix).format(*numbers)


def _without_prefix(
    family: Family, their_weights: Mapping[str, Tensor], mappings: Mapping[str, TensorMapping]
) -> dict[str, str]:
    """Their names without the family's prefix, which files have or have not, and the names as they are."""
    short: dict[str, str] = {}
    for full in their_weights:
        name = full.removeprefix(family.prefix)
        for older, today in family.renamed.items():
            name = name.removesuffix(older) + today if name.endswith(older) else name
        if name not in mappings and re.fullmatch(family.ignored, name):
            continue
        if name in short:
            raise ValueError(f"{short[name]} and {full} are the same tensor of a {family.model_type} model: keep one")
        short[name] = full
    return short
