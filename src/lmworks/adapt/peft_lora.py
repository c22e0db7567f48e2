"""LoRA in PEFT's folders: rank and alpha in the config, A and B of each layer in the file, DoRA's magnitudes.

What PEFT saves is read, what is written PEFT loads, with the same logits.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.dora import row_lengths
from lmworks.adapt.layers import weight_of
from lmworks.adapt.lora import EMBEDDING, Lora, LowRank, check_fits
from lmworks.adapt.peft_folder import (
    CONFIG,
    PREFIX,
    TENSORS,
    TheirLinear,
    by_their_names,
    check_complete,
    named,
    peft_header,
    read_peft_folder,
    short_names,
    their_linears,
    write_peft_folder,
)
from lmworks.adapt.task_head import head_to_peft
from lmworks.config import from_mapping
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import write_config
from lmworks.model.transformer import Transformer


def cut(linear: TheirLinear, change: LowRank) -> dict[str, LowRank]:
    """Their adapter as ours: all parts share its A, and each has its own rows of B and of DoRA's magnitudes."""
    if len(linear.parts) == 1:
        return {linear.parts[0].name: change}
    a, b, scale, magnitude = change
    return {
        name: LowRank(a, b[rows], scale, None if magnitude is None else magnitude[rows]) for name, rows in linear.parts
    }


def join(linear: TheirLinear, changes: Mapping[str, LowRank]) -> LowRank | None:
    """The inverse; None where no part has an adapter.

    Parts with an A and scale of their own are put side by side: the rank is the sum of theirs, and B is zero where a
    part's outputs meet another's rank. ValueError for DoRA of some parts, for those without have a length too.
    """
    linear_changes = {name: changes[name] for name, _ in linear.parts if name in changes}
    if len(linear_changes) == len(linear.parts) == 1 or not linear_changes:
        return next(iter(linear_changes.values()), None)
    a, b, scale, _ = next(iter(linear_changes.values()))
    lengths = {name: change.magnitude for name, change in linear_changes.items() if change.magnitude is not None}
    if 0 < len(lengths) < len(linear.parts):
        without = [name for name, _ in linear.parts if name not in lengths]
        raise ValueError(f"{linear.name} is one layer in the family: DoRA needs {', '.join(without)} as well")
    magnitude = linear.gather(lengths) if lengths else None
    if all(change.scale == scale and torch.equal(change.a, a) for change in linear_changes.values()):
        return LowRank(a, linear.gather({name: change.b for name, change in linear_changes.items()}), scale, magnitude)
    wide, start = dict[str, Tensor](), 0
    for name, change in linear_changes.items():
        wide[name] = b.new_zeros(len(change.b), sum(other.rank for other in linear_changes.values()))
        wide[name][:, start : start + change.rank] = change.b * change.scale
        start += change.rank
    return LowRank(torch.cat([change.a for change in linear_changes.values()]), linear.gather(wide), 1.0, magnitude)


def _with_lengths(linear: TheirLinear, changes: Mapping[str, LowRank], model: Transformer) -> Mapping[str, LowRank]:
    """DoRA of some parts of a layer with the other parts as they are: no change, and their rows' own lengths."""
    given = next((changes[name] for name, _ in linear.parts if name in changes), None)
    if given is None or given.magnitude is None:
        return changes
    filled = dict(changes)
    for name, rows in linear.parts:
        if name not in changes:
            b = given.b.new_zeros(len(rows), given.rank)
            lengths = row_lengths(weight_of(model.get_submodule(name))).to(given.magnitude)
            filled[name] = LowRank(given.a, b, given.scale, lengths)
    return filled


# What each field must be for the adapter to compute what is computed here; the first is what is meant by its absence.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": (None, "LORA"),
    "bias": ("none",),
    # The others change the base model's weights before they are adapted, or A and B themselves while they are loaded.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
# Fields that say where an adapter comes from, how it was trained or loaded, and what the tensors' shapes say as well.
_IRRELEVANT = {
    *("auto_mapping", "base_model_name_or_path", "eva_config", "fan_in_fan_out", "inference_mode", "loftq_config"),
    *("lora_ga_config", "corda_config", "megatron_config", "megatron_core", "peft_version", "qalora_group_size"),
    *("revision", "runtime_config", "task_type"),
}
_NAMES = ("target_modules", "exclude_modules", "layers_pattern")


def read_peft_config(document: Document) -> LoraConfig:
    """UnsupportedModel names the first field that makes another adapter than LoRA or DoRA: trained biases,
    `modules_to_save`, `target_parameters` and their kind, also one that we do not know, unless it is empty or false.
    ValueError for a value of another type."""
    for name, allowed in _FIXED.items():
        if (found := document.get(name, allowed[0])) not in allowed:
            supported = ", ".join(repr(value) for value in allowed if value is not None)
            raise UnsupportedModel(f"adapter_config.json: {name} = {found!r} is not supported; supported: {supported}")
    ours = LoraConfig.__dataclass_fields__
    for name, value in document.items():
        if value and name not in ours and name not in _FIXED and name not in _IRRELEVANT:
            raise UnsupportedModel(
                f"adapter_config.json: {name} = {value!r} is not supported; merge the adapter into its base with "
                "PEFT's merge_and_unload(), save that, and load it as a model"
            )
    values = {name: document[name] for name in ours if document.get(name) is not None}
    for name in ("layers_to_transform", "layers_pattern"):
        if isinstance(values.get(name), int | str):
            values[name] = [values[name]]
    return from_mapping(LoraConfig, values, ["adapter_config.json"])


def write_peft_config(changes: Mapping[str, LowRank], others: Collection[str], use_rslora: bool) -> JsonObject:
    """The fields for layers with these changes, by PEFT's full names; `others` are the layers without an adapter."""
    ranks = {name: change.rank for name, change in changes.items()}
    alphas = {name: _alpha(change, use_rslora) for name, change in changes.items()}
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    dora = {change.magnitude is not None for change in changes.values()}
    if len(dora) > 1:
        raise ValueError("an adapter is DoRA in all layers or in none")
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": short_names(ranks, others),
        "rank_pattern": {name: other for name, other in ranks.items() if other != rank},
        "alpha_pattern": {name: other for name, other in alphas.items() if other != alpha},
        "bias": "none",
        "lora_dropout": 0.0,
        "use_rslora": use_rslora,
        "use_dora": True in dora,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def _most_common(values: Iterable[Any]) -> Any:
    values = list(values)
    return max(values, key=values.count)


def read_lora(folder: str | Path, config: ModelConfig, published: Document | None = None) -> Lora:
    """The adapter in a PEFT folder, for a model with this config; its tensors keep their dtype.

    published   the base's config.json, `Checkpoint.published`: it names the family, whose names the adapter uses. None:
                the family that `save` would write.

    FileNotFoundError for a missing file. UnsupportedModel (a ValueError) for an adapter that is no LoRA or DoRA of
    linear layers and the embedding, naming the field or the tensor that says so. ValueError for a damaged file, for an
    adapter of another base, naming what does not fit, and for tensors that are not what the config says.
    """
    with named(folder):
        return lora_from_peft(config, published, *read_peft_folder(folder))


def lora_from_peft(
    config: ModelConfig, published: Document | None, document: Document, tensors: Mapping[str, Tensor]
) -> Lora:
    """The adapter in a folder's `document` and `tensors`; the rest as in `read_lora`."""
    lora_config, base, changes = read_peft_config(document), write_config(config, published), dict[str, LowRank]()
    linears = their_linears(config, base)
    linear_changes = by_their_names(_changes(tensors), linears, base)
    for name, (linear, parts) in linear_changes.items():
        change = LowRank(parts[_A], parts[_B], lora_config.scale(name), parts.get(_MAGNITUDE))
        _check(name, change, linear, lora_config)
        changes |= cut(linear, change)
    check_complete(linear_changes, linears, lora_config)
    return Lora(changes)


def write_lora(
    folder: str | Path,
    lora: Lora,
    config: ModelConfig,
    published: Document | None = None,
    base: str = "",
    use_rslora: bool = False,
    model: Transformer | None = None,
    head: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes a PEFT folder, whole or not at all; FileExistsError when there is something already.

    published   as in `read_lora`.
    base        where the base model is, a path or a name, for PEFT's sake.
    use_rslora  whether lora_alpha is written as scale · √r, and not as scale · r.
    model       the base itself, which gives lengths to parts without DoRA of a layer that is one in the family.
    head        weights of the model's head that were trained whole, by our names.

    Adapters of layers that are one in the family, such as GPT-2's queries, keys and values, become one there. The
    file's header has a SHA-256 of its tensors, which `read_lora` checks. ValueError for an adapter of another model.
    """
    check_fits(lora, config)
    document = write_config(config, published)
    by_name = {linear.name: linear for linear in their_linears(config, document)}
    changes: dict[str, LowRank] = {}
    for name, linear in by_name.items():
        ours = lora.changes if model is None else _with_lengths(linear, lora.changes, model)
        if (joined := join(linear, ours)) is not None:
            changes[name] = joined
    fields = write_peft_config(changes, by_name.keys() - changes.keys(), use_rslora)
    fields["fan_in_fan_out"] = any(by_name[name].transposed for name in changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b, _, magnitude) in changes.items():
        of_table = EMBEDDING in (part for part, _ in by_name[name].parts)
        suffixes = ("lora_embedding_A", "lora_embedding_B") if of_table else ("lora_A.weight", "lora_B.weight")
        for suffix, tensor in zip((*suffixes, _MAGNITUDE), (a, b, magnitude), strict=True):
            if tensor is not None:
                # Copies: parts may share a matrix, and safetensors refuses one tensor that is a piece of another.
                tensors[f"{PREFIX}{name}.{suffix}"] = tensor.detach().cpu().clone().contiguous()
    saved, whole = head_to_peft(head or {}, document)
    return write_peft_folder(folder, {**peft_header("LORA", document, base), **fields, **saved}, {**tensors, **whole})


_A, _B, _MAGNITUDE = "lora_A", "lora_B", "lora_magnitude_vector"


def _alpha(change: LowRank, use_rslora: bool) -> float:
    """scale · r, or scale · √r, whole where only rounding has kept it from being so."""
    alpha = change.scale * (change.rank**0.5 if use_rslora else change.rank)
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 * abs(alpha) else alpha


_TENSOR = re.compile(
    rf"(?:{re.escape(PREFIX)})?(.+)\.(?:(lora_A|lora_B|base_layer)\.weight|lora_embedding_([AB])|({_MAGNITUDE}))"
)


def _changes(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A, B and DoRA's magnitude of every layer by its name in the file, without PEFT's prefix."""
    changes: dict[str, dict[str, Tensor]] = {}
    for name in tensors:
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise UnsupportedModel(f"{TENSORS}: {name} is not a matrix of a LoRA of a linear layer or the embedding")
        kind = match[2] or (f"lora_{match[3]}" if match[3] else _MAGNITUDE)
        changes.setdefault(match[1], {})[kind] = tensors[name]
    if single := [name for name, parts in changes.items() if not parts.keys() >= {_A, _B}]:
        raise ValueError(f"{TENSORS}: {', '.join(single[:5])} have not both of lora_A and lora_B")
    for name, parts in changes.items():
        shape = parts[_B].shape[0], parts[_A].shape[-1]
        # PEFT puts the base's frozen weight next to an adapter of head or embedding: nothing new, unless it was
        # resized.
        if "base_layer" in parts and sorted(parts["base_layer"].shape) != sorted(shape):
            raise UnsupportedModel(f"{TENSORS}: {name}.base_layer.weight is not the base's weight, it was resized")
    return changes


def _check(name: str, change: LowRank, linear: TheirLinear, lora_config: LoraConfig) -> None:
    (a, b, _, magnitude), (outputs, inputs) = change, linear.shape
    if a.dim() != 2 or b.dim() != 2 or (b.shape[0], a.shape[1]) != (outputs, inputs):
        raise ValueError(
            f"the adapter is of another base: {name} has A {tuple(a.shape)} and B {tuple(b.shape)}, "
            f"this model's layer goes from {inputs} to {outputs} values"
        )
    rank = lora_config.rank(name)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise ValueError(f"{name} has the rank {a.shape[0]}, {CONFIG} says {rank}")
    if (magnitude is not None) != lora_config.use_dora or (magnitude is not None and magnitude.shape != (outputs,)):
        has = "no magnitudes" if magnitude is None else f"magnitudes {tuple(magnitude.shape)}"
        raise ValueError(f"{name} has {has}, {CONFIG} says use_dora = {lora_config.use_dora}")
