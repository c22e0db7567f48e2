"""Generation: one engine for chat, evaluation, rollouts, scores and vectors, local or remote, behind one protocol."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.generate.best_of_n import best_of as best_of
    from lmworks.generate.draft import LayerSkip as LayerSkip
    from lmworks.generate.draft import draft_model as draft_model
    from lmworks.generate.embedding import TextEncoder as TextEncoder
    from lmworks.generate.engine import Engine as Engine
    from lmworks.generate.protocol import Capabilities as Capabilities
    from lmworks.generate.protocol import Completion as Completion
    from lmworks.generate.protocol import Delta as Delta
    from lmworks.generate.protocol import EngineProtocol as EngineProtocol
    from lmworks.generate.protocol import Request as Request
    from lmworks.generate.protocol import SamplingParameters as SamplingParameters
    from lmworks.generate.protocol import Score as Score
    from lmworks.generate.protocol import Token as Token
    from lmworks.generate.remote import RemoteEngine as RemoteEngine
    from lmworks.generate.search_parameters import BeamParameters as BeamParameters
    from lmworks.generate.search_parameters import ContrastiveParameters as ContrastiveParameters
    from lmworks.generate.worker import EngineWorker as EngineWorker
    from lmworks.generate.worker import QueueFullError as QueueFullError

_PUBLIC = {
    "BeamParameters": "lmworks.generate.search_parameters",
    "Capabilities": "lmworks.generate.protocol",
    "Completion": "lmworks.generate.protocol",
    "ContrastiveParameters": "lmworks.generate.search_parameters",
    "Delta": "lmworks.generate.protocol",
    "Engine": "lmworks.generate.engine",
    "EngineProtocol": "lmworks.generate.protocol",
    "EngineWorker": "lmworks.generate.worker",
    "LayerSkip": "lmworks.generate.draft",
    "QueueFullError": "lmworks.generate.worker",
    "RemoteEngine": "lmworks.generate.remote",
    "Request": "lmworks.generate.protocol",
    "SamplingParameters": "lmworks.generate.protocol",
    "Score": "lmworks.generate.protocol",
    "TextEncoder": "lmworks.generate.embedding",
    "Token": "lmworks.generate.protocol",
    "best_of": "lmworks.generate.best_of_n",
    "draft_model": "lmworks.generate.draft",
}

__all__ = [
    "BeamParameters",
    "Capabilities",
    "Completion",
    "ContrastiveParameters",
    "Delta",
    "Engine",
    "EngineProtocol",
    "EngineWorker",
    "LayerSkip",
    "QueueFullError",
    "RemoteEngine",
    "Request",
    "SamplingParameters",
    "Score",
    "TextEncoder",
    "Token",
    "best_of",
    "draft_model",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.generate' has no attribute {name!r}")
