"""The model core: architectures as data, their modules, and checkpoints on disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.model.cache import KVCache as KVCache
    from lmworks.model.checkpoint import Checkpoint as Checkpoint
    from lmworks.model.checkpoint import assemble as assemble
    from lmworks.model.checkpoint import load as load
    from lmworks.model.config import ModelConfig as ModelConfig
    from lmworks.model.extending import extend_vocabulary as extend_vocabulary
    from lmworks.model.gguf_write import save_gguf as save_gguf
    from lmworks.model.initialisation import initialise as initialise
    from lmworks.model.presets.sizes import SIZES as SIZES
    from lmworks.model.pulling import locate as locate
    from lmworks.model.pulling import pull as pull
    from lmworks.model.transformer import Transformer as Transformer

_PUBLIC = {
    "Checkpoint": "checkpoint",
    "KVCache": "cache",
    "ModelConfig": "config",
    "SIZES": "presets.sizes",
    "Transformer": "transformer",
    "assemble": "checkpoint",
    "extend_vocabulary": "extending",
    "initialise": "initialisation",
    "load": "checkpoint",
    "locate": "pulling",
    "pull": "pulling",
    "save_gguf": "gguf_write",
}

__all__ = [
    "SIZES",
    "Checkpoint",
    "KVCache",
    "ModelConfig",
    "Transformer",
    "assemble",
    "extend_vocabulary",
    "initialise",
    "load",
    "locate",
    "pull",
    "save_gguf",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
