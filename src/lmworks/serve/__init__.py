"""A built system behind HTTP: an API that OpenAI's clients speak, pages for people, limits, keys, metrics."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.serve.app import create_app
    from lmworks.serve.config import ServeConfig
    from lmworks.serve.interaction_record import Turn
    from lmworks.serve.server import run
    from lmworks.serve.service import Service

__getattr__, __all__ = lazy_exports(__name__, __file__)
