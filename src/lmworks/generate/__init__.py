"""Generation: one engine for chat, evaluation, rollouts, scores and vectors, local or remote, behind one protocol."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.generate.best_of_n import best_of
    from lmworks.generate.draft_proposers import LayerSkip, draft_model
    from lmworks.generate.engine import Engine
    from lmworks.generate.engine_worker import EngineWorker, QueueFullError
    from lmworks.generate.protocol import (
        BeamParameters,
        Capabilities,
        Completion,
        ContrastiveParameters,
        Delta,
        EngineProtocol,
        Request,
        SamplingParameters,
        Score,
        Token,
    )
    from lmworks.generate.remote_engine import RemoteEngine
    from lmworks.generate.reward_scores import RewardModel
    from lmworks.generate.text_embedding import TextEncoder

__getattr__, __all__ = lazy_exports(__name__, __file__)
