"""Scaling laws and planning: what a training run costs, and which model and how many tokens a budget buys."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.train.planning.batch_size import TradeOff as TradeOff
    from lmworks.train.planning.batch_size import critical_batch_tokens as critical_batch_tokens
    from lmworks.train.planning.calibration import calibrate as calibrate
    from lmworks.train.planning.calibration import measured_speed as measured_speed
    from lmworks.train.planning.communication import communication_bytes as communication_bytes
    from lmworks.train.planning.compute import train_flops_per_token as train_flops_per_token
    from lmworks.train.planning.fitting import FittedLaw as FittedLaw
    from lmworks.train.planning.fitting import fit_law as fit_law
    from lmworks.train.planning.fitting import hold_out_largest as hold_out_largest
    from lmworks.train.planning.frontier import FittedPowerLaw as FittedPowerLaw
    from lmworks.train.planning.frontier import fit_envelope as fit_envelope
    from lmworks.train.planning.frontier import fit_isoflop as fit_isoflop
    from lmworks.train.planning.layout import Layout as Layout
    from lmworks.train.planning.memory import Memory as Memory
    from lmworks.train.planning.memory import expected_memory as expected_memory
    from lmworks.train.planning.plan import Plan as Plan
    from lmworks.train.planning.plan import PlanConfig as PlanConfig
    from lmworks.train.planning.plan import allocate as allocate
    from lmworks.train.planning.plan import make_plan as make_plan
    from lmworks.train.planning.published import LAWS as LAWS
    from lmworks.train.planning.published_runs import RUNS as RUNS
    from lmworks.train.planning.scaling_laws import Allocation as Allocation
    from lmworks.train.planning.scaling_laws import ParametricLaw as ParametricLaw
    from lmworks.train.planning.scaling_laws import PowerLaw as PowerLaw
    from lmworks.train.planning.shape import choose_shape as choose_shape
    from lmworks.train.planning.shape import explain_shape as explain_shape

_PUBLIC = {
    "Allocation": "scaling_laws",
    "FittedLaw": "fitting",
    "FittedPowerLaw": "frontier",
    "LAWS": "published",
    "Layout": "layout",
    "Memory": "memory",
    "ParametricLaw": "scaling_laws",
    "Plan": "plan",
    "PlanConfig": "plan",
    "PowerLaw": "scaling_laws",
    "RUNS": "published_runs",
    "TradeOff": "batch_size",
    "allocate": "plan",
    "calibrate": "calibration",
    "choose_shape": "shape",
    "communication_bytes": "communication",
    "critical_batch_tokens": "batch_size",
    "expected_memory": "memory",
    "explain_shape": "shape",
    "fit_envelope": "frontier",
    "fit_isoflop": "frontier",
    "fit_law": "fitting",
    "hold_out_largest": "fitting",
    "make_plan": "plan",
    "measured_speed": "calibration",
    "train_flops_per_token": "compute",
}

__all__ = [
    "LAWS",
    "RUNS",
    "Allocation",
    "FittedLaw",
    "FittedPowerLaw",
    "Layout",
    "Memory",
    "ParametricLaw",
    "Plan",
    "PlanConfig",
    "PowerLaw",
    "TradeOff",
    "allocate",
    "calibrate",
    "choose_shape",
    "communication_bytes",
    "critical_batch_tokens",
    "expected_memory",
    "explain_shape",
    "fit_envelope",
    "fit_isoflop",
    "fit_law",
    "hold_out_largest",
    "make_plan",
    "measured_speed",
    "train_flops_per_token",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
