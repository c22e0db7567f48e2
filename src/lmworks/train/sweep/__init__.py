"""Sweeps: a ladder of models trained on this text, and the scaling law that they follow."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.train.sweep.config import SweepConfig
    from lmworks.train.sweep.findings import Findings, Trained, find
    from lmworks.train.sweep.ladder import Ladder, Rung, plan_ladder
    from lmworks.train.sweep.stage import sweep

__getattr__, __all__ = lazy_exports(__name__, __file__)
