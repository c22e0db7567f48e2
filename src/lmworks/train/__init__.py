"""Training: objectives, the loop, optimizers, parallelism, and what a run needs before it starts."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.train.config import CheckpointConfig, GuardConfig, TrainConfig
    from lmworks.train.loop import step, train
    from lmworks.train.losses import Loss, cross_entropy, token_cross_entropy, token_log_probabilities
    from lmworks.train.objectives.causal import CausalLanguageModel
    from lmworks.train.optimizer_config import AdamW, Cosine, InverseSqrt, Linear, Lion, Muon, Sgd, WarmupStableDecay
    from lmworks.train.run import Run
    from lmworks.train.schedules import multiplier
    from lmworks.train.validation import validate

__getattr__, __all__ = lazy_exports(__name__, __file__)
