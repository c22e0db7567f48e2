"""A built system behind HTTP: an API that OpenAI's clients speak, pages for people, limits, keys, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.serve.app import create_app as create_app
    from lmworks.serve.config import ServeConfig as ServeConfig
    from lmworks.serve.recording import Turn as Turn
    from lmworks.serve.server import run as run
    from lmworks.serve.service import Service as Service

_PUBLIC = {
    "ServeConfig": "lmworks.serve.config",
    "Service": "lmworks.serve.service",
    "Turn": "lmworks.serve.recording",
    "create_app": "lmworks.serve.app",
    "run": "lmworks.serve.server",
}

__all__ = ["ServeConfig", "Service", "Turn", "create_app", "run"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.serve' has no attribute {name!r}")
