"""Sweeps: a ladder of models trained on this text, and the scaling law that they follow."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.train.sweeping.config import SweepConfig as SweepConfig
    from lmworks.train.sweeping.findings import Findings as Findings
    from lmworks.train.sweeping.findings import Trained as Trained
    from lmworks.train.sweeping.findings import find as find
    from lmworks.train.sweeping.ladder import Ladder as Ladder
    from lmworks.train.sweeping.ladder import Rung as Rung
    from lmworks.train.sweeping.ladder import plan_ladder as plan_ladder
    from lmworks.train.sweeping.stage import sweep as sweep

_PUBLIC = {
    "Findings": "findings",
    "Ladder": "ladder",
    "Rung": "ladder",
    "SweepConfig": "config",
    "Trained": "findings",
    "find": "findings",
    "plan_ladder": "ladder",
    "sweep": "stage",
}

__all__ = ["Findings", "Ladder", "Rung", "SweepConfig", "Trained", "find", "plan_ladder", "sweep"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
