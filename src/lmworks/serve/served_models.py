"""The models of a recipe, loaded under the names that clients use."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from lmworks.adapt import AdapterIndex, Lora, load, read_lora, with_lora
from lmworks.compiled import choose_device, free_memory
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine import Engine
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.runner import default_dtype
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import Checkpoint, is_gguf, read_document
from lmworks.model.config import ClassificationHead, LanguageModelHead, ModelConfig, PoolHead, UnsupportedModel
from lmworks.model.download import base_of_adapter, weights_path
from lmworks.model.model_costs import count_parameters, kv_bytes_per_token
from lmworks.model.transformer import empty_model
from lmworks.serve.config import ServeConfig
from lmworks.tokenizer.tokenizer_folder import read_chat_template

_BY_MACHINE = ("auto", "int8", "int4")  # weights whose other tensors have the machine's own numbers
ASSISTANT = "assistant"  # the name of the grounded system
Kind = Literal["assistant", "language", "embedding", "reranker", "verifier", "router"]
_VALUE_BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 2}  # at most, an int8's scale included
_LEAST_CONTEXT = 2048
CHATS: tuple[Kind, ...] = ("assistant", "language", "router")  # kinds that answer messages


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that a request can ask for; `created` in seconds since the epoch."""

    name: str
    kind: Kind
    fingerprint: str
    context_length: int | None
    created: int


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """Language models, encoders, rerankers and verifiers by name, and of each adapter the language model that it
    changes."""

    languages: Mapping[str, EngineWorker]
    encoders: Mapping[str, TextEncoder]
    adapters: Mapping[str, str] = field(default_factory=dict)
    cross_encoders: Mapping[str, CrossEncoder] = field(default_factory=dict)


def served_names(models: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """name -> path of each model of a recipe. `models` is role -> path, `names` role -> the name that the recipe gives.

    A model given by path is called by the last part of its path. ValueError when one would hide the assistant, or when
    two models have one name.
    """
    result: dict[str, str] = {}
    for role, path in models.items():
        named = names.get(role, path)
        name = Path(named).stem if Path(named).suffix == ".gguf" else Path(named).name
        if name == ASSISTANT or result.get(name, path) != path:
            holder = "the grounded system" if name == ASSISTANT else result[name]
            raise ValueError(f"the model {path} would be served as {name!r}, which is {holder}; rename its folder")
        result[name] = path
    return result


def load_models(paths: Mapping[str, str], config: ServeConfig) -> LoadedModels:
    """Load models (name -> path), two at a time; heads that answer no request, such as a reader's, are left out."""
    device = choose_device(config.device, config.weights)
    with ThreadPoolExecutor(2, thread_name_prefix="load") as threads:
        checkpoints = dict(zip(paths, threads.map(load, paths.values()), strict=True))
    kinds = {name: _kind(checkpoint.config) for name, checkpoint in checkpoints.items()}
    bases = {name: checkpoint for name, checkpoint in checkpoints.items() if kinds[name] == "language"}
    number = default_dtype(device) if config.weights in _BY_MACHINE else getattr(torch, config.weights)
    to_come = sum(count_parameters(one.config) for one in bases.values() if device.type != "cpu") * number.itemsize
    room = max(free_memory(device) - to_come, 0) // (2 * max(len(bases) + len(config.adapters), 1))
    languages = {name: _worker(checkpoint, config, room) for name, checkpoint in bases.items()}
    encoders = {n: TextEncoder(c) for n, c in checkpoints.items() if kinds[n] == "embedding"}
    cross_encoders = {n: CrossEncoder(c) for n, c in checkpoints.items() if kinds[n] in ("reranker", "verifier")}
    try:
        adapters: dict[str, str] = {}
        # Models around a prefix or bottlenecks share these weights, in the numbers that engines compute in.
        bases = {name: replace(checkpoint, dtype=number) for name, checkpoint in bases.items()}
        for name, folder in config.adapters.items():
            language, adapter = _fitting(name, folder, bases, {*checkpoints, *languages})
            if isinstance(adapter, Checkpoint):
                languages[name] = _worker(adapter, config, room)
            else:
                languages[language].call(Engine.load_adapter, name, adapter)
                adapters[name] = language
    except BaseException:
        for worker in languages.values():  # nobody else knows of them yet
            worker.close()
        raise
    return LoadedModels(languages, encoders, adapters, cross_encoders)


def _kind(config: ModelConfig) -> Kind | None:
    """The requests that a model answers; None for heads that answer none, such as those of readers and rewards."""
    match config.head:
        case LanguageModelHead():
            return "language"
        case PoolHead():
            return "embedding"
        case ClassificationHead(labels=1 | 3 as labels) if config.encoder:  # a reward model has a decoder
            return "reranker" if labels == 1 else "verifier"
    return None


def _worker(checkpoint: Checkpoint, config: ServeConfig, room: int) -> EngineWorker:
    context, tokens = _cache_size(checkpoint.config, config, room)
    cache = None if config.cache_dtype == "auto" else config.cache_dtype
    more = {"speculation": None if config.speculation == "off" else config.speculation, "device": config.device}
    engine = Engine(checkpoint, config.slots, context, config.weights, cache, tokens, **more)
    return EngineWorker(engine, config.max_waiting, config.events_per_second or None)


def _cache_size(model: ModelConfig, config: ServeConfig, room: int) -> tuple[int, int]:
    """Tokens of a context, the model's own unless it is set, and of the cache, whose keys and values take `room` bytes
    at most; but a context that is set, and else one of `_LEAST_CONTEXT`, is always taken."""
    context = config.context_length or model.context_length
    if not (tokens := config.cache_tokens):
        fits = room // kv_bytes_per_token(model, _VALUE_BYTES[config.cache_dtype]) if model.decoder else context
        tokens = max(min(config.slots * context, fits), config.context_length or min(context, _LEAST_CONTEXT))
    return config.context_length or min(context, tokens), tokens


def check_sources(paths: Mapping[str, str]) -> None:
    """FileNotFoundError or ValueError for a folder or a file that is clearly no model, or one that answers no request;
    no weights are read but an adapter's."""
    for name, source in paths.items():
        path = weights_path(Path(source))
        while (base := base_of_adapter(path)) is not None:
            path = weights_path(base)
        if path.is_dir():
            try:
                read_document(path)
            except UnsupportedModel as error:
                raise UnsupportedModel(f"{path}: {error}") from error
        elif not is_gguf(path):
            raise ValueError(f"{path} is no GGUF file: a model is one of these, or a Hugging Face folder")
        try:
            kind = _kind(load(source).config)
        except (OSError, ValueError):
            continue  # the error is raised when it is loaded, behind what is checked sooner
        if kind is None:
            raise ValueError(
                f"{name} answers no request by itself: serve a language or embedding model, a reranker or a verifier, "
                "or a workspace whose recipe names this one"
            )


def check_adapters(paths: Mapping[str, str], adapters: Mapping[str, str]) -> None:
    """Raise for an adapter that `load_models` would refuse, before any weights are read but the adapters' own."""
    if not adapters:
        return
    checkpoints = {name: load(path) for name, path in paths.items()}
    languages = {n: c for n, c in checkpoints.items() if _kind(c.config) == "language"}
    for name, folder in adapters.items():
        _fitting(name, folder, languages, checkpoints)


def _fitting(
    name: str, folder: str, languages: Mapping[str, Checkpoint], reserved: Collection[str]
) -> tuple[str, Lora | Checkpoint]:
    """The adapter, and the name of the one language model that it fits, or that it names as its base where several
    would do: a LoRA of linear layers, which runs next to the model in one engine, or of any other kind, or with a chat
    template of its own, the model that the two make.

    FileNotFoundError for a folder that is not there or no adapter. ValueError when its name is taken, also by one of
    the `reserved`, and when it fits none of the models, or several.
    """
    if name in (ASSISTANT, *languages, *reserved):
        raise ValueError(f"the adapter {name!r} has the name of a model that is served: give it another one")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"the adapter {name!r} is to be read from {folder}, and there is no such folder")
    fits: dict[str, Lora | Checkpoint] = {}
    reasons: list[str] = []
    named = {language: checkpoint for language, checkpoint in languages.items() if _is_base(checkpoint, Path(folder))}
    for language, checkpoint in (named or languages).items():
        try:
            fits[language] = _beside(folder, checkpoint) or load(folder, base=checkpoint)
        except ValueError as error:
            reasons.append(f"{language}: {error}")
    if len(fits) != 1:
        why = f"it fits {', '.join(fits)}: serve only one of them" if fits else "; ".join(reasons)
        raise ValueError(f"the adapter {name!r} in {folder} must fit exactly one language model that is served; {why}")
    return next(iter(fits.items()))


def _is_base(checkpoint: Checkpoint, folder: Path) -> bool:
    """Whether the checkpoint is the one that the adapter's folder names."""
    with suppress(FileNotFoundError):
        base = base_of_adapter(folder)
        return base is not None and Path(checkpoint.source).resolve() == base.resolve()
    return False


def _beside(folder: str, checkpoint: Checkpoint) -> Lora | None:
    """The adapter where each request of one engine may use it or not; None for one that makes another model."""
    if read_chat_template(Path(folder)) not in (None, checkpoint.chat_template):
        return None
    try:
        lora = read_lora(folder, checkpoint.config, checkpoint.published)
    except UnsupportedModel:
        return None
    try:
        with_lora(empty_model(checkpoint.config), [lora], AdapterIndex())
    except ValueError:  # of layers that do not see all tokens in their order
        return None
    return lora
