"""The model core: architectures as data, their modules, and checkpoints on disk."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.model.cache import KVCache as KVCache
    from lmworks.model.checkpoint import Checkpoint as Checkpoint
    from lmworks.model.checkpoint import load as load
    from lmworks.model.config import ModelConfig as ModelConfig
    from lmworks.model.initialisation import initialise as initialise
    from lmworks.model.presets import bert as bert
    from lmworks.model.presets import llama as llama
    from lmworks.model.pulling import locate as locate
    from lmworks.model.pulling import pull as pull
    from lmworks.model.transformer import Transformer as Transformer

_PUBLIC = {
    "Checkpoint": "lmworks.model.checkpoint",
    "KVCache": "lmworks.model.cache",
    "ModelConfig": "lmworks.model.config",
    "Transformer": "lmworks.model.transformer",
    "bert": "lmworks.model.presets",
    "initialise": "lmworks.model.initialisation",
    "llama": "lmworks.model.presets",
    "load": "lmworks.model.checkpoint",
    "locate": "lmworks.model.pulling",
    "pull": "lmworks.model.pulling",
}

__all__ = [
    "Checkpoint",
    "KVCache",
    "ModelConfig",
    "Transformer",
    "bert",
    "initialise",
    "llama",
    "load",
    "locate",
    "pull",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.model' has no attribute {name!r}")
