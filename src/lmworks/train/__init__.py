"""Training: objectives, the loop, optimizers, parallelism, and what a run needs before it starts."""

from importlib import import_module
from typing import Any

_PUBLIC: dict[str, str] = {}

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
