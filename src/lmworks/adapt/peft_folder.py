"""PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`, under the names of the base model's family.

What is in them for a method stands in that method's file, such as peft_lora.py.
"""

import hashlib
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.lora import HEAD, layer_shapes
from lmworks.artefact import publish, write_json, write_text
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import family_of, tensor_mappings
from lmworks.model.tensor_files import LazyTensors, open_safetensors, write_tensor_file
from lmworks.tokenizer.tokenizer_folder import read_json

T = TypeVar("T")
_README = """---
library_name: peft
---
`lmworks.load("PATH")`, PATH being this folder, opens the adapter with its base, {base}. PEFT takes the base from a
folder of its own:

    import lmworks, peft, transformers

    lmworks.load("{base}").save("base")
    base = transformers.AutoModelForCausalLM.from_pretrained("base")
    model = peft.PeftModel.from_pretrained(base, "PATH")

With `base_model_name_or_path` in adapter_config.json set to that folder, `AutoPeftModelForCausalLM` opens it as well.
"""


class Part(NamedTuple):
    """One of our linear layers within one of theirs: `rows` (out,) int64 are its outputs' numbers there."""

    name: str
    rows: Tensor


@dataclass(frozen=True)
class TheirLinear:
    """One of their linear layers, or their embedding.

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

    def gather(self, parts: Mapping[str, Tensor], rest: float = 0.0) -> Tensor:
        """The values of some parts for each of their outputs, (out of the part, …) → (out, …); `rest` for others."""
        first = next(iter(parts.values()))
        whole = first.new_full((self.shape[0], *first.shape[1:]), rest)
        for name, rows in self.parts:
            if name in parts:
                whole[rows] = parts[name]
        return whole


def their_linears(config: ModelConfig, document: Document) -> list[TheirLinear]:
    """All that an adapter may change, in the model's order; `document` is the config.json, which names the family."""
    family = family_of(document["model_type"])
    architecture = family.architecture(document)
    shapes = layer_shapes(config)
    linears: list[TheirLinear] = []
    for tensor, place in tensor_mappings(config, document).items():
        ours = [name.removesuffix(".weight") for name in place.ours]
        if not all(name.endswith(".weight") for name in place.ours) or not shapes.keys() >= set(ours):
            continue
        bare = tensor.removesuffix(".weight")
        of_head = bare in architecture.modules.values()
        full = bare if architecture.bare or of_head else family.prefix + bare
        shape = sum(shapes[name][0] for name in ours), shapes[ours[0]][1]
        rows, transposed = [torch.arange(shape[0])], False
        if place.fused is not None:
            rows = place.fused.split(rows[0], config)  # a bias is cut as the matrix's outputs are
            whole = place.fused.join([torch.empty(shapes[name], device="meta") for name in ours], config)
            transposed = tuple(whole.shape) != shape
        linears.append(TheirLinear(full, bare, shape, tuple(map(Part, ours, rows)), transposed))
    head = architecture.modules.get(HEAD, "lm_head")
    if HEAD in shapes and all(linear.bare != head for linear in linears):  # tied: an adapter of its use as a projection
        linears.append(TheirLinear(head, head, shapes[HEAD], (Part(HEAD, torch.arange(shapes[HEAD][0])),)))
    return linears


CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_CHECKSUM = "sha256"  # of the tensors, in the header of the files that we write
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForSequenceClassification": "SEQ_CLS",
}


def read_peft_folder(folder: str | Path) -> tuple[Document, Mapping[str, Tensor]]:
    """The config and the tensors of an adapter's folder, each read when it is asked for.

    FileNotFoundError for a missing file, UnsupportedModel for a pickled one, ValueError for a damaged one, and for
    numbers that are not finite.
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
    if broken := next((name for name in tensors if not tensors[name].isfinite().all()), None):
        # Every answer with it would fail.
        raise ValueError(f"{broken} holds values that are not finite: its training has diverged, take an earlier state")
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
        write_text(whole / "README.md", _README.format(base=document["base_model_name_or_path"]))
        publish(whole, folder)
    return folder


@contextmanager
def named(folder: str | Path) -> Iterator[None]:
    """Errors within say which folder they are of."""
    try:
        yield
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{folder}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def peft_header(kind: str, document: Document, base: str) -> JsonObject:
    """The fields that all of PEFT's configs have. `document` is the base's config.json, `base` where the base is."""
    task = next((task for end, task in _TASKS.items() if document["architectures"][0].endswith(end)), None)
    return {"peft_type": kind, "task_type": task, "base_model_name_or_path": base, "inference_mode": True}


def short_names(names: Iterable[str], others: Collection[str]) -> list[str]:
    """The last part of a name where it leads to no other layer, the whole name elsewhere."""
    taken = {name.rpartition(".")[2] for name in others}
    lasts = {name: name.rpartition(".")[2] for name in names}
    return sorted({name if last in taken else last for name, last in lasts.items()})


def by_their_names(
    by_module: Mapping[str, T], linears: Sequence[TheirLinear], document: Document
) -> dict[str, tuple[TheirLinear, T]]:
    """The contents of a file by the names of layers, each with its layer; without those that our forward has no use
    for, such as the pooler of a bare BERT. ValueError names layers that the model lacks."""
    family = family_of(document["model_type"])
    by_name = {name: linear for linear in linears for name in (linear.bare, linear.name)}
    ignored = {name for name in by_module if re.fullmatch(family.ignored, f"{name.removeprefix(family.prefix)}.weight")}
    if unknown := sorted(by_module.keys() - by_name.keys() - ignored):
        raise ValueError(
            f"the adapter is of another base: a {family.model_type} model like this one has no linear layers "
            f"{', '.join(unknown[:5])}"
        )
    return {name: (by_name[name], value) for name, value in by_module.items() if name in by_name}


def check_complete(present: Collection[str], linears: Sequence[TheirLinear], targets: LoraConfig) -> None:
    """The file has the layers that its config targets, and no others."""
    if stray := sorted(name for name in present if not targets.targets(name)):
        raise ValueError(f"{TENSORS} has {', '.join(stray[:5])}, which target_modules in {CONFIG} does not name")
    whole = any(linear.name in present for linear in linears if linear.name != linear.bare)
    names = [linear.name if whole else linear.bare for linear in linears]
    if missing := sorted(name for name in names if name not in present and targets.targets(name)):
        raise ValueError(f"{TENSORS} lacks {', '.join(missing[:5])}, which target_modules in {CONFIG} names")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
