"""Generation: one engine for chat, evaluation, rollouts, scores and vectors, local or remote, behind one protocol."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.generate.best_of_n import best_of
    from lmworks.generate.draft import LayerSkip, draft_model
    from lmworks.generate.embedding import TextEncoder
    from lmworks.generate.engine import Engine
    from lmworks.generate.protocol import (
        Capabilities,
        Completion,
        Delta,
        EngineProtocol,
        Request,
        SamplingParameters,
        Score,
        Token,
    )
    from lmworks.generate.remote import RemoteEngine
    from lmworks.generate.search_parameters import BeamParameters, ContrastiveParameters
    from lmworks.generate.worker import EngineWorker, QueueFullError

__getattr__, __all__ = lazy_exports(__name__, __file__)
