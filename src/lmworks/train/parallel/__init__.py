"""Training on several processes: how a run is laid out over them, outside of the model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.train.parallel.config import ParallelConfig as ParallelConfig
    from lmworks.train.parallel.ranks import Ranks as Ranks
    from lmworks.train.parallel.ranks import join as join

_PUBLIC = {"ParallelConfig": "config", "Ranks": "ranks", "join": "ranks"}

__all__ = ["ParallelConfig", "Ranks", "join"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
