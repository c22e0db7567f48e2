"""A checkpoint: a model with the tokenizer, the chat template and the limits it was trained with.

On disk it is a Hugging Face folder, or a GGUF file. There is no export step: what `save` writes, `transformers` loads,
with the same logits.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lmworks.artefact import hash_json, publish, write_json, write_text
from lmworks.model.compressed_tensors import QUANTIZATION, is_packed, packed_tensors, unpacked_weights
from lmworks.model.config import ModelConfig, PoolHead, UnsupportedModel
from lmworks.model.download import MODELS, digest_of_model, locate, weights_path
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import family_of, read_config, to_our_names, write_config, write_weights
from lmworks.model.sentence_transformers import read_pooling, write_pooling
from lmworks.model.tensor_files import SHARD, LazyTensors, QuantisedWeights, read_weights, write_tensors
from lmworks.model.transformer import Transformer, empty_model, sharing_copy
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tokenizer_folder import CHAT_TEMPLATE, read_chat_template, read_json, stated_eos_ids

DType = torch.dtype | Literal["stored"]
_TOKENIZER_FILES = ("tokenizer*", "*.model", "vocab*", "merges.txt", "*.tiktoken")
_BASE = "quantised_base"  # in config.json: `Checkpoint.quantised`
_HASHED_AT_ONCE = 1 << 20  # values: converting a whole embedding to float32 would cost its size twice over


@dataclass(frozen=True)
class Checkpoint:
    """A model's config, weights, tokenizer and chat template, as `load` gives and `save` keeps them.

    tokenizer     None where the folder has none: such a model reads and writes ids alone.
    weights       the parameters by our names, as they were loaded or as the file has them: of a GGUF file each is
                  dequantised when it is asked for, so that an engine can take the file's blocks and never hold floats.
    dtype         of the model, None: each weight as it is stored.
    max_length    longest text in tokens: the context length, or what an embedding model was trained on.
    published     the config.json that was loaded; what we do not use of it is saved again.
    generation    generation_config.json, saved again as it is.
    quantised     the quantised checkpoint that the weights were read from, or that they were before they were trained:
                  its `name` and `path`; saved in config.json as `quantised_base`, with its `sha256`.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer | None
    chat_template: str | None
    max_length: int
    source: str
    licence: str | None
    published: Mapping[str, Any] | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    quantised: Mapping[str, str] | None = None
    dtype: torch.dtype | None = torch.float32
    device: torch.device | str = "cpu"

    @cached_property
    def model(self) -> Transformer:
        """The model with its weights, made when it is first asked for. ValueError for weights that do not fit.

        It can be trained, also where it was first asked for in torch's inference mode.
        """
        with torch.inference_mode(False):
            model = empty_model(self.config)
            weights = {name: self._converted(tensor) for name, tensor in self.weights.items()}
            try:
                model.load_state_dict(weights, assign=True)
            except RuntimeError as error:
                raise ValueError(f"the weights do not fit the config: {error}") from error
            self.__dict__["_made"] = _versions(dict(model.named_parameters()))
            return model.eval()

    def require_untrained(self) -> None:
        """ValueError where the model was trained in place, so that `weights` are no longer what it computes with."""
        now = dict(self.model.named_parameters()) if "_made" in self.__dict__ else {}
        written = [name for name, _ in _versions(now).items() - self.__dict__.get("_made", {}).items()]
        # Read again: it may have been written to without a change, or moved.
        if any(
            name not in self.weights or not torch.equal(self.weights[name].to(now[name]), now[name]) for name in written
        ):
            raise ValueError(
                f"the model of {self.source} was trained in place, and this checkpoint still has its file's weights: "
                "take checkpoint.with_model(checkpoint.model)"
            )

    def with_model(self, model: Transformer) -> "Checkpoint":
        """A checkpoint of the same tokenizer, template and limits around another model of this config: trained on, or
        quantised. They share their weights alone: the checkpoint's model is in eval mode, `model` stays in its own."""
        checkpoint = replace(self, config=model.config, weights=model.state_dict())
        checkpoint.__dict__["model"] = sharing_copy(model).eval()
        return checkpoint

    def _converted(self, weight: Tensor) -> Tensor:
        weight = weight.to(self.device, self.dtype).contiguous()
        return weight.clone() if weight.is_inference() else weight

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the values of the weights that the model holds, the config with its pooling, the tokenizer and
        `max_length`; computed when first asked for.

        Neither the file format nor the dtype enters: a GGUF file and the folder saved from it have the same
        fingerprint, and so has a bfloat16 file read as float32. Weights that a conversion rounded are other weights.
        """
        made = "model" in self.__dict__
        weights = (
            self.model.state_dict()
            if made
            else LazyTensors(
                {name: partial(lambda name: self._converted(self.weights[name]), name) for name in self.weights}
            )
        )
        return fingerprint(self.config, weights, self.tokenizer, self.max_length)

    @property
    def required_tokenizer(self) -> Tokenizer:
        """The tokenizer, for what reads or writes text; ValueError where there is none."""
        if self.tokenizer is None:
            raise ValueError(
                f"{self.source} has no tokenizer: put its tokenizer.json (or tokenizer.model) next to the weights and "
                "load again, or take one with dataclasses.replace(checkpoint, tokenizer=Tokenizer.load(folder))"
            )
        return self.tokenizer

    @cached_property
    def chat(self) -> ChatRenderer:
        """Renders conversations; ChatTemplateError for a checkpoint without a chat template."""
        return ChatRenderer(self.chat_template, self.required_tokenizer)

    @cached_property
    def answer_tokenizer(self) -> Tokenizer:
        """The tokenizer for answers that are held to a form; see `ChatRenderer.answer_tokenizer`."""
        try:
            return self.chat.answer_tokenizer
        except ChatTemplateError:  # no conversations, and no calls in them
            return self.required_tokenizer

    def save(self, folder: str | Path, shard_size: int = SHARD, packed: bool = False) -> Path:
        """Writes a Hugging Face folder, whole or not at all; FileExistsError when there is something already.

        The weights keep their dtype, bit for bit, in files of at most `shard_size` bytes. `packed`: those that are
        quantised stay so, as `compressed_tensors.py` says; else they are floats.
        """
        folder = Path(folder).absolute()
        if folder.exists():
            raise FileExistsError(f"{folder} exists already; choose another name, checkpoints are never overwritten")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as private:
            whole = Path(private) / folder.name  # the outer folder is for its owner alone, this one as others are
            whole.mkdir()
            _write(self, whole, shard_size, packed)
            publish(whole, folder)
        return folder


def load(
    source: str | Path, dtype: DType = torch.float32, device: torch.device | str = "cpu", pickle: bool = False
) -> Checkpoint:
    """Loads a pulled model by its name, a Hugging Face folder, or a GGUF file, itself or alone in a folder.

    dtype     of all weights; "stored": each as the file has it, so that safetensors stay mapped and take no memory of
              their own (what a GGUF file has quantised becomes float32).
    pickle    reads `pytorch_model.bin` where there are no safetensors, see `read_weights`.

    Raises FileNotFoundError for a source that is none of these or was not pulled, and for a missing file;
    UnsupportedModel (a ValueError) for a model that is not computed here, naming the field, tensor or file that says
    so; ValueError for a damaged file and for parts that do not fit together. Every weight comes from the file.
    """
    if dtype != "stored" and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f'dtype is a floating-point torch.dtype or "stored", got {dtype!r}')
    path = weights_path(locate(source) if isinstance(source, str) and source in MODELS else Path(source))
    if path.is_dir():
        try:
            return _load_folder(path, str(source), dtype, device, pickle)
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{path}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if path.is_file() and (path.suffix == ".gguf" or is_gguf(path)):
        from lmworks.model.gguf_read import read_gguf  # the library for it takes long to import

        config, weights, tokenizer, template, licence = read_gguf(path)
        _check_rows(config, tokenizer)
        quantised = _named(source, path) if weights.quantised else None
        target = torch.float32 if dtype == "stored" else dtype  # blocks of integers are no dtype of a model
        return Checkpoint(
            config, weights, tokenizer, template, config.context_length, str(source), licence,
            quantised=quantised, dtype=target, device=device,
        )  # fmt: skip
    raise FileNotFoundError(
        f"cannot load {source!s}: give one of the names {', '.join(MODELS)}, a Hugging Face folder, or a .gguf file"
    )


def assemble(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    chat_template: str | None = None,
    *,
    max_length: int | None = None,
    source: str = "memory",
    licence: str | None = None,
    published: Mapping[str, Any] | None = None,
    generation: Mapping[str, Any] | None = None,
    quantised: Mapping[str, str] | None = None,
    dtype: DType = torch.float32,
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """A checkpoint from its parts; `weights` are the parameters of `Transformer(config)` by our names.

    Each is converted before the next is asked for. ValueError for weights that the config does not ask for, or that
    are missing, and for a tokenizer with more tokens than the embedding has rows. Special tokens without a role
    may lie beyond them, as the image token of Gemma 3's text models does: no text becomes one.
    """
    if tokenizer is not None:
        _check_rows(config, tokenizer)
    max_length = min(max_length or config.context_length, config.context_length)
    checkpoint = Checkpoint(
        config, weights, tokenizer, chat_template, max_length, source, licence, published, generation or {},
        quantised, None if dtype == "stored" else dtype, device,
    )  # fmt: skip
    if isinstance(weights, QuantisedWeights):
        return checkpoint
    # Made now, so that whatever does not fit is said at once; the checkpoint then holds the weights of its model alone.
    return checkpoint.with_model(checkpoint.model)


def _versions(parameters: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Where each parameter lies and how often it was written to."""
    return {name: (weight.data_ptr(), weight._version) for name, weight in parameters.items()}


def _check_rows(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """ValueError for a tokenizer with more tokens than the embedding has rows; see `assemble`."""
    rows = config.embedding.vocabulary
    roles = tokenizer.roles.values()
    beyond = sum(index >= rows and token not in roles for token, index in tokenizer.special_ids.items())
    if tokenizer.vocabulary_size - beyond > rows:
        raise ValueError(f"the tokenizer has {tokenizer.vocabulary_size} tokens, the embedding {rows} rows")


def fingerprint(
    config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer | None, max_length: int
) -> str:
    """The hash that `Checkpoint.fingerprint` gives. Values are hashed as float32, which holds the
    16-bit formats exactly."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        for values in weights[name].detach().flatten().split(_HASHED_AT_ONCE):
            digest.update(values.to("cpu", torch.float32).numpy().data)
    pooling = config.head if isinstance(config.head, PoolHead) else None
    fields = {"config": write_config(config), "pooling": pooling, "tokenizer": tokenizer and tokenizer.hash}
    return hash_json({"weights": digest.hexdigest(), **fields, "max_length": max_length})


def read_document(folder: Path) -> Document:
    """config.json; UnsupportedModel for an adapter, whose base model the folder does not hold."""
    if (folder / "adapter_config.json").exists():
        raise UnsupportedModel(
            "adapter_config.json: this is a PEFT adapter and not a whole model, which is needed here; merge it into "
            "its base with lmworks.load(folder).save(another)"
        )
    if not (folder / "config.json").exists():
        files = ", ".join(sorted(path.name for path in folder.glob("*.gguf")))
        hint = f"; give one of its GGUF files: {files}" if files else ""
        raise FileNotFoundError(f"{folder} has no config.json, so it is not a Hugging Face folder{hint}")
    document = read_json(folder / "config.json")
    if "model_type" not in document:
        raise UnsupportedModel("config.json lacks model_type, the family of the model")
    return document


def _load_folder(folder: Path, source: str, dtype: DType, device: torch.device | str, pickle: bool) -> Checkpoint:
    document = read_document(folder)
    pool, max_length = read_pooling(folder)
    try:
        packed = is_packed(document)
        quantised = _named(source, folder) if packed else document.get(_BASE)
        document = {name: document[name] for name in document if name != _BASE and (name != QUANTIZATION or not packed)}
        config, stored = read_config(document, pool), read_weights(folder, pickle)
        config = family_of(document["model_type"]).stored(config, stored.keys())
        weights = (unpacked_weights if packed else to_our_names)(config, document, stored)
    except (ArithmeticError, AttributeError, RuntimeError, TypeError) as error:  # a value that no model can have
        raise ValueError(f"config.json does not describe a {document['model_type']} model: {error}") from error
    generation = read_json(folder / "generation_config.json")
    if any(next(folder.glob(name), None) for name in _TOKENIZER_FILES):
        tokenizer = Tokenizer.load(folder, stated_eos_ids(document, generation))
    else:
        tokenizer = None
        warnings.warn(f"{folder} has no tokenizer: its model reads and writes token ids, no text", stacklevel=3)
    return assemble(
        config, weights, tokenizer, read_chat_template(folder),
        max_length=max_length, source=source, licence=_licence(folder), published=document, generation=generation,
        quantised=quantised, dtype=dtype, device=device,
    )  # fmt: skip


def _named(source: str | Path, path: Path) -> dict[str, str]:
    pulled = (name for name, model in MODELS.items() if (path.parent.name, path.name) == (name, model.entry))
    return {"name": next(pulled, str(source)), "path": str(path.absolute())}


def is_gguf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"GGUF"


def _write(checkpoint: Checkpoint, folder: Path, shard_size: int, packed: bool) -> None:
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    document = write_config(config, checkpoint.published)
    document.pop("torch_dtype", None)  # the older name of `dtype`
    if packed:
        if not isinstance(checkpoint.weights, QuantisedWeights):
            raise ValueError(f"{checkpoint.source} is not quantised: quantise it, or save it with packed=False")
        checkpoint.require_untrained()
        tensors, quantization = packed_tensors(config, document, checkpoint.weights)
        write_tensors(folder, tensors, {name: tensor.nbytes for name, tensor in tensors.items()}, shard_size)
        document |= {QUANTIZATION: quantization, "dtype": "bfloat16"}
    else:
        if (base := checkpoint.quantised) is not None:
            new = "sha256" not in base and Path(base["path"]).exists()
            document[_BASE] = dict(base) | ({"sha256": digest_of_model(Path(base["path"]))} if new else {})
            if base["name"] in MODELS:  # found by its name on every machine
                document[_BASE].pop("path", None)
        write_weights(folder, checkpoint.model, document, shard_size)
        document["dtype"] = str(checkpoint.model.tokens.dtype).removeprefix("torch.")
    generation = dict(checkpoint.generation)
    if tokenizer is not None:
        _write_special_ids(tokenizer, document, generation, published=checkpoint.published is not None)
        tokenizer.save(folder, checkpoint.chat_template, checkpoint.max_length)
    elif checkpoint.chat_template is not None:
        write_text(folder / CHAT_TEMPLATE, checkpoint.chat_template)
    write_json(folder / "config.json", document)
    if generation:
        write_json(folder / "generation_config.json", generation)
    if isinstance(config.head, PoolHead):
        write_pooling(folder, config.head, config.embedding.width, checkpoint.max_length)
    if checkpoint.licence is not None:
        write_text(folder / "README.md", f"---\nlicense: {checkpoint.licence}\n---\n")


def _write_special_ids(tokenizer: Tokenizer, document: JsonObject, generation: JsonObject, published: bool) -> None:
    """Write the tokenizer's special ids; published ones stay unless the tokenizer ends texts otherwise."""
    if not published:
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
        document |= ids | document  # RoBERTa's padding id is part of its config: it says where positions begin
    default_eos_ids = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    if {*default_eos_ids, *stated_eos_ids(document, generation)} != set(tokenizer.eos_ids):
        stated = generation if "eos_token_id" in generation else document
        stated["eos_token_id"] = list(tokenizer.eos_ids)


def _licence(folder: Path) -> str | None:
    """The licence that the model card states in its header."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.exists() else []
    header = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    stated = [line.partition(":")[2].strip().strip("\"'") for line in header if line.startswith("license:")]
    return stated[0] if stated else None
