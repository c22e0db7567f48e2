"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, under the names of the base model's family.

What PEFT saves is read, what is written PEFT loads, with the same logits.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.lora import HEAD, Lora, LowRank, check_fits, linear_shapes
from lmworks.artefact import publish, write_json
from lmworks.config import from_mapping
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.families.family import Document, Family, JsonObject
from lmworks.model.huggingface import Place, family_of, places_of, write_config
from lmworks.model.tensor_files import LazyTensors, open_safetensors, write_tensor_file
from lmworks.tokenizer.tokenizer_folder import read_json


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


# What each field must be for the adapter to compute what is computed here; the first is what is meant by its absence.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": (None, "LORA"),
    "bias": ("none",),
    "use_dora": (None, False),
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
    """UnsupportedModel names the first field that makes another adapter than a plain LoRA: DoRA (`use_dora`), trained
    biases, `modules_to_save`, `target_parameters` and their kind, also one that we do not know, unless it is empty or
    false. ValueError for a value of another type."""
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


def write_peft_config(
    ranks: Mapping[str, int], alphas: Mapping[str, float], others: Iterable[str], task: str | None, base: str
) -> JsonObject:
    """The document for layers with these ranks and alphas, by PEFT's full names; `others` are the layers without an
    adapter. `task` is PEFT's task type, and `base` where the base model is."""
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": _short_names(ranks, set(others)),
        "rank_pattern": {name: other for name, other in ranks.items() if other != rank},
        "alpha_pattern": {name: other for name, other in alphas.items() if other != alpha},
        "bias": "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def _short_names(names: Iterable[str], others: set[str]) -> list[str]:
    """The last part of a name where it leads to no other layer, the whole name elsewhere."""
    taken = {name.rpartition(".")[2] for name in others}
    lasts = {name: name.rpartition(".")[2] for name in names}
    return sorted({name if last in taken else last for name, last in lasts.items()})


def _most_common(values: Iterable[Any]) -> Any:
    values = list(values)
    return max(values, key=values.count)


CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_CHECKSUM = "sha256"  # of the tensors, in the header of the files that we write
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


def read_peft_folder(folder: str | Path) -> tuple[Document, Mapping[str, Tensor]]:
    """The config and the tensors of an adapter's folder, each read when it is asked for.

    FileNotFoundError for a missing file, UnsupportedModel for a pickled one, ValueError for a damaged one.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise FileNotFoundError(f"{folder} has no {CONFIG}, so it is not a PEFT adapter")
    if not (folder / TENSORS).exists():
        if (folder / "adapter_model.bin").exists():
            raise UnsupportedModel("adapter_model.bin is pickled, a format that can run code: save it as safetensors")
        raise FileNotFoundError(f"{folder} has no {TENSORS}: there are no weights")
    tensors = LazyTensors(open_safetensors(folder / TENSORS))
    with safe_open(folder / TENSORS, framework="pt") as file:
        stated = (file.metadata() or {}).get(_CHECKSUM)
    if stated is not None and stated != _checksum(tensors):
        raise ValueError(f"{TENSORS} is damaged: its tensors are not those that were written; copy it again")
    return read_json(folder / CONFIG), tensors


def write_peft_folder(folder: str | Path, document: Document, tensors: Mapping[str, Tensor]) -> Path:
    """Writes an adapter's folder, whole or not at all; FileExistsError when there is something already. The file's
    header has a SHA-256 of the tensors, which `read_peft_folder` checks."""
    folder = Path(folder).absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another name, adapters are never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as private:
        whole = Path(private) / folder.name  # the outer folder is for its owner alone, this one as others are
        whole.mkdir()
        write_tensor_file(dict(tensors), whole / TENSORS, {"format": "pt", _CHECKSUM: _checksum(tensors)})
        write_json(whole / CONFIG, document)
        publish(whole, folder)
    return folder


@contextmanager
def _named(folder: str | Path) -> Iterator[None]:
    """Errors within say which folder they are of."""
    try:
        yield
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{folder}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def read_lora(folder: str | Path, config: ModelConfig, published: Document | None = None) -> Lora:
    """The adapter in a PEFT folder, for a model with this config; its tensors keep their dtype.

    published   the base's config.json, `Checkpoint.published`: it names the family, whose names the adapter uses. None:
                the family that `save` would write.

    FileNotFoundError for a missing file. UnsupportedModel (a ValueError) for an adapter that is no plain LoRA of linear
    layers, naming the field or the tensor that says so. ValueError for a damaged file, for an adapter of another base,
    naming what does not fit, and for tensors that are not what the config says.
    """
    with _named(folder):
        document, tensors = read_peft_folder(folder)
        return _assemble(_changes(tensors), read_peft_config(document), config, write_config(config, published))


def write_lora(
    folder: str | Path, lora: Lora, config: ModelConfig, published: Document | None = None, base: str = ""
) -> Path:
    """Writes a PEFT folder, whole or not at all; FileExistsError when there is something already.

    published   as in `read_lora`.
    base        where the base model is, a path or a name, for PEFT's sake.

    Adapters of layers that are one in the family, such as GPT-2's queries, keys and values, become one there. The
    file's header has a SHA-256 of its tensors, which `read_lora` checks. ValueError for an adapter of another model.
    """
    check_fits(lora, config)
    document = write_config(config, published)
    linears = their_linears(config, document)
    changes = {linear.name: change for linear in linears if (change := join(linear, lora.changes)) is not None}
    peft = write_peft_config(
        {name: change.rank for name, change in changes.items()},
        {name: _alpha(change) for name, change in changes.items()},
        others=[linear.name for linear in linears if linear.name not in changes],
        task=next((task for end, task in _TASKS.items() if document["architectures"][0].endswith(end)), None),
        base=base,
    )
    transposed = any(linear.transposed for linear in linears if linear.name in changes)
    tensors: dict[str, Tensor] = {}
    for name, (a, b, _) in changes.items():
        # Copies: parts may share a matrix, and one tensor may be a piece of another, which safetensors would refuse.
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = a.detach().cpu().clone().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = b.detach().cpu().clone().contiguous()
    return write_peft_folder(folder, {**peft, "fan_in_fan_out": transposed}, tensors)


def _alpha(change: LowRank) -> float:
    """scale · r, whole where only rounding has kept it from being so."""
    alpha = change.scale * change.rank
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 * abs(alpha) else alpha


def _changes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every layer by its name in the file, without PEFT's prefix."""
    found: dict[str, dict[str, Tensor]] = {}
    for name in tensors:
        match = re.fullmatch(rf"(?:{re.escape(_PREFIX)})?(.+)\.(lora_A|lora_B|base_layer)\.weight", name)
        if match is None:
            raise UnsupportedModel(f"{TENSORS}: {name} is not a matrix of a plain LoRA of a linear layer")
        found.setdefault(match[1], {})[match[2]] = tensors[name]
    if single := [name for name, parts in found.items() if not parts.keys() >= {"lora_A", "lora_B"}]:
        raise ValueError(f"{TENSORS}: {', '.join(single[:5])} have not both of lora_A and lora_B")
    for name, parts in found.items():
        shape = parts["lora_B"].shape[0], parts["lora_A"].shape[-1]
        # PEFT puts the base's frozen weight beside an adapter of the head: it says nothing new unless it was resized.
        if "base_layer" in parts and sorted(parts["base_layer"].shape) != sorted(shape):
            raise UnsupportedModel(f"{TENSORS}: {name}.base_layer.weight is not the base's weight, it was resized")
    return {name: (parts["lora_A"], parts["lora_B"]) for name, parts in found.items()}


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _assemble(
    pairs: Mapping[str, tuple[Tensor, Tensor]], lora_config: LoraConfig, config: ModelConfig, document: Document
) -> Lora:
    linears = their_linears(config, document)
    by_name = {name: linear for linear in linears for name in (linear.bare, linear.name)}
    family = family_of(document["model_type"])
    pairs = {name: pair for name, pair in pairs.items() if name in by_name or not _is_unused(name, family)}
    if unknown := sorted(pairs.keys() - by_name.keys()):
        raise ValueError(
            f"the adapter is of another base: a {family.model_type} model like this one has no linear layers "
            f"{', '.join(unknown[:5])}"
        )
    changes: dict[str, LowRank] = {}
    for name, (a, b) in pairs.items():
        _check(name, a, b, by_name[name], lora_config)
        changes |= cut(by_name[name], LowRank(a, b, lora_config.scale(name)))
    _check_complete(pairs, linears, lora_config)
    return Lora(changes)


def _is_unused(name: str, family: Family) -> bool:
    """Whether it is a layer of theirs that our forward has no use for, such as the pooler of a bare BERT."""
    return re.fullmatch(family.ignored, f"{name.removeprefix(family.prefix)}.weight") is not None


def _check(name: str, a: Tensor, b: Tensor, linear: TheirLinear, lora_config: LoraConfig) -> None:
    outputs, inputs = linear.shape
    if a.dim() != 2 or b.dim() != 2 or (b.shape[0], a.shape[1]) != (outputs, inputs):
        raise ValueError(
            f"the adapter is of another base: {name} has A {tuple(a.shape)} and B {tuple(b.shape)}, "
            f"this model's layer goes from {inputs} to {outputs} values"
        )
    rank = lora_config.rank(name)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise ValueError(f"{name} has the rank {a.shape[0]}, {CONFIG} says {rank}")
    if not (a.isfinite().all() and b.isfinite().all()):  # every answer with it would fail
        raise ValueError(f"{name} holds values that are not finite: its training has diverged, take an earlier state")


def _check_complete(pairs: Mapping[str, object], linears: list[TheirLinear], lora_config: LoraConfig) -> None:
    """The file has the layers that its config targets, and no others."""
    if stray := sorted(name for name in pairs if not lora_config.targets(name)):
        raise ValueError(f"{TENSORS} has {', '.join(stray[:5])}, which target_modules in {CONFIG} does not name")
    whole = any(linear.name in pairs for linear in linears if linear.name != linear.bare)
    names = [linear.name if whole else linear.bare for linear in linears]
    if missing := sorted(name for name in names if name not in pairs and lora_config.targets(name)):
        raise ValueError(f"{TENSORS} lacks {', '.join(missing[:5])}, which target_modules in {CONFIG} names")
