"""A checkpoint: a model with the tokenizer, the chat template and the limits it was trained with.

On disk it is a Hugging Face folder, or a GGUF file, which is read only. There is no export step: what `save` writes,
`transformers` loads, with the same logits.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lmworks.artefact import hash_json, publish, write_json, write_text
from lmworks.model.config import ModelConfig, PoolHead
from lmworks.model.gguf_model import read_gguf
from lmworks.model.huggingface import read_config, write_config
from lmworks.model.pulling import MODELS, locate
from lmworks.model.sentence_transformers import read_pooling, write_pooling
from lmworks.model.transformer import Transformer
from lmworks.model.weights import empty_model, read_weights, to_our_names, write_weights
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.tokenizer import Tokenizer, read_json


@dataclass(frozen=True)
class Checkpoint:
    """What `load` gives and `save` keeps.

    max_length    longest text in tokens: the context length, or what an embedding model was trained on.
    fingerprint   SHA-256 over the weights' values as stored (before conversion to the dtype asked for), the config with
                  its pooling, the tokenizer and `max_length`. The file format does not enter: a GGUF file and the
                  folder saved from it in float32 have the same fingerprint.
    """

    model: Transformer
    tokenizer: Tokenizer
    chat_template: str | None
    max_length: int
    source: str
    fingerprint: str
    licence: str | None

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @cached_property
    def chat(self) -> ChatRenderer:
        """Renders conversations; ChatTemplateError for a checkpoint without a chat template."""
        return ChatRenderer(self.chat_template, self.tokenizer)

    def save(self, folder: str | Path) -> Path:
        """Writes a Hugging Face folder, whole or not at all; FileExistsError when there is something already."""
        folder = Path(folder).absolute()
        if folder.exists():
            raise FileExistsError(f"{folder} exists already; choose another name, checkpoints are never overwritten")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(self, temporary)
            publish(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return folder


def load(source: str | Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Loads a pulled model by its name, a Hugging Face folder, or a .gguf file; in float32 unless `dtype` says
    otherwise.

    Raises FileNotFoundError for a source that is none of these or was not pulled, and UnsupportedModel (a ValueError)
    for a model that is not computed here, naming the field that says so.
    """
    path = locate(source) if isinstance(source, str) and source in MODELS else Path(source)
    if path.is_dir():
        return _load_folder(path, str(source), dtype, device)
    if path.is_file() and path.suffix == ".gguf":
        model = read_gguf(path)
        return assemble(
            model.config, model.weights, model.tokenizer, model.chat_template,
            source=str(source), licence=model.licence, dtype=dtype, device=device,
        )  # fmt: skip
    raise FileNotFoundError(
        f"cannot load {source!s}: give one of the names {', '.join(MODELS)}, a Hugging Face folder, or a .gguf file"
    )


def assemble(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    chat_template: str | None = None,
    *,
    max_length: int | None = None,
    source: str = "memory",
    licence: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """A checkpoint from its parts; `weights` are the parameters of `Transformer(config)` by our names."""
    if tokenizer.vocabulary_size > config.embedding.vocabulary:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens, the embedding {config.embedding.vocabulary} rows"
        )
    max_length = max_length or config.context_length
    digest = fingerprint(config, weights, tokenizer, max_length)
    model = empty_model(config)
    converted = {name: tensor.to(device=device, dtype=dtype or torch.float32) for name, tensor in weights.items()}
    model.load_state_dict(converted, assign=True)
    return Checkpoint(model.eval(), tokenizer, chat_template, max_length, source, digest, licence)


def fingerprint(config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer, max_length: int) -> str:
    """See `Checkpoint`. Values are hashed as float32, which holds bfloat16 and float16 exactly."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().to("cpu", torch.float32).contiguous().numpy().data)
    pooling = config.head if isinstance(config.head, PoolHead) else None
    parts = {"config": write_config(config), "pooling": pooling, "tokenizer": tokenizer.hash, "max_length": max_length}
    return hash_json({"weights": digest.hexdigest(), **parts})


def _load_folder(folder: Path, source: str, dtype: torch.dtype | None, device: torch.device | str) -> Checkpoint:
    document = read_json(folder / "config.json")
    if not document:
        raise FileNotFoundError(f"{folder} has no config.json, so it is not a Hugging Face folder")
    pool, max_length = read_pooling(folder)
    config = read_config(document, pool)
    weights = to_our_names(config, read_weights(folder))
    tokenizer = Tokenizer.load(folder, _eos_ids(folder, document))
    return assemble(
        config, weights, tokenizer, _chat_template(folder),
        max_length=max_length, source=source, licence=_licence(folder), dtype=dtype, device=device,
    )  # fmt: skip


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    dtype = str(checkpoint.model.embedding.tokens.weight.dtype).removeprefix("torch.")
    eos = list(tokenizer.eos_ids)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": eos[0] if len(eos) == 1 else eos or None}
    ids["pad_token_id"] = tokenizer.pad_id
    write_weights(folder, checkpoint.model)
    write_json(folder / "config.json", {**write_config(config), **ids, "torch_dtype": dtype})
    tokenizer.save(folder, checkpoint.chat_template, checkpoint.max_length)
    if isinstance(config.head, PoolHead):
        write_pooling(folder, config.head, config.embedding.width, checkpoint.max_length)
    if checkpoint.licence is not None:
        write_text(folder / "README.md", f"---\nlicense: {checkpoint.licence}\n---\n")


def _eos_ids(folder: Path, document: Mapping[str, object]) -> list[int]:
    """What ends a text: the generation settings know best, then the model's, then the tokenizer's own."""
    found = read_json(folder / "generation_config.json").get("eos_token_id", document.get("eos_token_id"))
    return found if isinstance(found, list) else [found] if isinstance(found, int) else []


def _chat_template(folder: Path) -> str | None:
    """From `chat_template.jinja`, or from `tokenizer_config.json`: one template, or a list with one named `default`."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def _licence(folder: Path) -> str | None:
    """The licence that the model card states in its header."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.exists() else []
    header = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    stated = [line.partition(":")[2].strip().strip("\"'") for line in header if line.startswith("license:")]
    return stated[0] if stated else None
