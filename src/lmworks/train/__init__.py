"""Training: objectives, the loop, optimizers, parallelism, and what a run needs before it starts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.train.config import CheckpointConfig as CheckpointConfig
    from lmworks.train.config import GuardConfig as GuardConfig
    from lmworks.train.config import RampConfig as RampConfig
    from lmworks.train.config import TrainConfig as TrainConfig
    from lmworks.train.loop import train as train
    from lmworks.train.losses import Loss as Loss
    from lmworks.train.losses import cross_entropy as cross_entropy
    from lmworks.train.losses import projected_cross_entropy as projected_cross_entropy
    from lmworks.train.objectives.causal import CausalLanguageModel as CausalLanguageModel
    from lmworks.train.optimizer_config import AdamW as AdamW
    from lmworks.train.optimizer_config import Cosine as Cosine
    from lmworks.train.optimizer_config import InverseSqrt as InverseSqrt
    from lmworks.train.optimizer_config import Linear as Linear
    from lmworks.train.optimizer_config import Lion as Lion
    from lmworks.train.optimizer_config import Muon as Muon
    from lmworks.train.optimizer_config import Sgd as Sgd
    from lmworks.train.optimizer_config import WarmupStableDecay as WarmupStableDecay
    from lmworks.train.run import Run as Run
    from lmworks.train.schedules import multiplier as multiplier
    from lmworks.train.validating import validate as validate

_CONFIGS = ("CheckpointConfig", "GuardConfig", "RampConfig", "TrainConfig")
_OPTIMIZER_CONFIGS = ("AdamW", "Cosine", "InverseSqrt", "Linear", "Lion", "Muon", "Sgd", "WarmupStableDecay")
_PUBLIC = {
    **dict.fromkeys(_CONFIGS, "lmworks.train.config"),
    **dict.fromkeys(_OPTIMIZER_CONFIGS, "lmworks.train.optimizer_config"),
    "CausalLanguageModel": "lmworks.train.objectives.causal",
    "Loss": "lmworks.train.losses",
    "Run": "lmworks.train.run",
    "cross_entropy": "lmworks.train.losses",
    "multiplier": "lmworks.train.schedules",
    "projected_cross_entropy": "lmworks.train.losses",
    "train": "lmworks.train.loop",
    "validate": "lmworks.train.validating",
}

__all__ = [
    "AdamW",
    "CausalLanguageModel",
    "CheckpointConfig",
    "Cosine",
    "GuardConfig",
    "InverseSqrt",
    "Linear",
    "Lion",
    "Loss",
    "Muon",
    "RampConfig",
    "Run",
    "Sgd",
    "TrainConfig",
    "WarmupStableDecay",
    "cross_entropy",
    "multiplier",
    "projected_cross_entropy",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
