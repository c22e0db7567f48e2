"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, under the names of the base model's family.

What PEFT saves is read, what is written PEFT loads, with the same logits.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.lora import Lora, LowRank, check_fits
from lmworks.adapt.peft_config import read_peft_config, write_peft_config
from lmworks.adapt.peft_names import TheirLinear, cut, join, their_linears
from lmworks.artefact import publish, write_json
from lmworks.model.config import ModelConfig
from lmworks.model.huggingface import Document, Family, UnsupportedModel, family_of, write_config
from lmworks.model.tensor_files import LazyTensors, open_safetensors, write_tensor_file
from lmworks.tokenizer.tokenizer import read_json

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_CHECKSUM = "sha256"  # of the tensors, in the header of the files that we write
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


def read_lora(folder: str | Path, config: ModelConfig, published: Document | None = None) -> Lora:
    """The adapter in a PEFT folder, for a model with this config; its tensors keep their dtype.

    published   the base's config.json, `Checkpoint.published`: it names the family, whose names the adapter uses. None:
                the family that `save` would write.

    FileNotFoundError for a missing file. UnsupportedModel (a ValueError) for an adapter that is no plain LoRA of linear
    layers, naming the field or the tensor that says so. ValueError for a damaged file, for an adapter of another base,
    naming what does not fit, and for tensors that are not what the config says.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise FileNotFoundError(f"{folder} has no {CONFIG}, so it is not a PEFT adapter")
    try:
        lora_config = read_peft_config(read_json(folder / CONFIG))
        return _assemble(_read_changes(folder), lora_config, config, write_config(config, published))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{folder}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def write_lora(
    folder: str | Path, lora: Lora, config: ModelConfig, published: Document | None = None, base: str = ""
) -> Path:
    """Writes a PEFT folder, whole or not at all; FileExistsError when there is something already.

    published   as in `read_lora`.
    base        where the base model is, a path or a name, for PEFT's sake.

    Adapters of layers that are one in the family, such as GPT-2's queries, keys and values, become one there. The
    file's header has a SHA-256 of its tensors, which `read_lora` checks. ValueError for an adapter of another model.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose another name, adapters are never overwritten")
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as private:
        whole = Path(private) / folder.name  # the outer folder is for its owner alone, this one as others are
        whole.mkdir()
        write_tensor_file(tensors, whole / TENSORS, {"format": "pt", _CHECKSUM: _checksum(tensors)})
        write_json(whole / CONFIG, {**peft, "fan_in_fan_out": transposed})
        publish(whole, folder)
    return folder


def _alpha(change: LowRank) -> float:
    """scale · r, whole where only rounding has kept it from being so."""
    alpha = change.scale * change.rank
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 * abs(alpha) else alpha


def _read_changes(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of every layer by its name in the file, without PEFT's prefix."""
    if not (folder / TENSORS).exists():
        if (folder / "adapter_model.bin").exists():
            raise UnsupportedModel("adapter_model.bin is pickled, a format that can run code: save it as safetensors")
        raise FileNotFoundError(f"{folder} has no {TENSORS}: there are no weights")
    tensors = LazyTensors(open_safetensors(folder / TENSORS))
    with safe_open(folder / TENSORS, framework="pt") as file:
        stated = (file.metadata() or {}).get(_CHECKSUM)
    if stated is not None and stated != _checksum(tensors):
        raise ValueError(f"{TENSORS} is damaged: its tensors are not those that were written; copy it again")
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
