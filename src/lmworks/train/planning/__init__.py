"""Scaling laws and planning: what a training run costs, and which model and how many tokens a budget buys."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.train.planning.communication import communication_bytes
    from lmworks.train.planning.compute import train_flops_per_token
    from lmworks.train.planning.hyperparameters import critical_batch_tokens
    from lmworks.train.planning.layout import Layout
    from lmworks.train.planning.measured_throughput import calibrate, measured_speed
    from lmworks.train.planning.memory import Memory, expected_memory
    from lmworks.train.planning.model_shape import choose_shape, explain_shape
    from lmworks.train.planning.plan import Plan, PlanConfig, make_plan
    from lmworks.train.planning.scaling_law_fit import (
        FittedLaw,
        FittedPowerLaw,
        fit_envelope,
        fit_isoflop,
        fit_law,
        hold_out_largest,
    )
    from lmworks.train.planning.scaling_laws import LAWS, Allocation, ParametricLaw, PowerLaw

__getattr__, __all__ = lazy_exports(__name__, __file__)
