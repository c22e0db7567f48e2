"""The models of a recipe, loaded under the names that clients use."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmworks.generate.embedding import TextEncoder
from lmworks.generate.engine import Engine
from lmworks.generate.worker import EngineWorker
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.config import LanguageModelHead, PoolHead
from lmworks.serve.config import ServeConfig

ASSISTANT = "assistant"  # the name of the grounded system


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that a request can ask for; `created` in seconds since the epoch."""

    name: str
    kind: Literal["assistant", "language", "embedding"]
    fingerprint: str
    context_length: int | None
    created: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Language models and encoders by name."""

    languages: Mapping[str, EngineWorker]
    encoders: Mapping[str, TextEncoder]


def served_names(models: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """name -> path of each model of a recipe. `models` is role -> path, `names` role -> the name that the recipe gives.

    A model given by path is called by the last part of its path. ValueError when one would hide the assistant, or when
    two models have one name.
    """
    result: dict[str, str] = {}
    for role, path in models.items():
        given = names.get(role, path)
        name = Path(given).stem if Path(given).suffix == ".gguf" else Path(given).name
        if name == ASSISTANT or result.get(name, path) != path:
            taken = "the grounded system" if name == ASSISTANT else result[name]
            raise ValueError(f"the model {path} would be served as {name!r}, which is {taken}; rename its folder")
        result[name] = path
    return result


def load_models(paths: Mapping[str, str], config: ServeConfig) -> Loaded:
    """Load models (name -> path), two at a time; heads other than language and pooling are left out."""
    with ThreadPoolExecutor(2, thread_name_prefix="load") as threads:
        checkpoints = dict(zip(paths, threads.map(load, paths.values()), strict=True))
    languages = {n: _worker(c, config) for n, c in checkpoints.items() if isinstance(c.config.head, LanguageModelHead)}
    encoders = {n: TextEncoder(c) for n, c in checkpoints.items() if isinstance(c.config.head, PoolHead)}
    return Loaded(languages, encoders)


def _worker(checkpoint: Checkpoint, config: ServeConfig) -> EngineWorker:
    engine = Engine(checkpoint, slots=config.slots, context_length=config.context_length or None)
    return EngineWorker(engine, max_waiting=config.max_waiting)
