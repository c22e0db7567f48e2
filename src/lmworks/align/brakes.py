"""Brakes: what stops or slows a run whose policy collapses, and says why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmworks.align.online_config import BrakesConfig

# Name → sign and side of what is too much, its unit, what to do.
_LIMITS = {
    "kl": (1, "above", "nats a token from the reference", "raise algorithm.beta, or lower the rate"),
    "entropy": (
        -1,
        "below",
        "of the first rollouts' entropy",
        "raise algorithm.beta or clip_high",
    ),
    "distinct_2": (-1, "below", "of the first rollouts' distinct pairs", "look at its completions, which repeat"),
}
_SHARES = ("entropy", "distinct_2")  # of what the first rollouts had


@dataclass
class Brakes:
    """Looks at the numbers of each batch of rollouts.

    factor  that the learning rate is multiplied with
    silent  batches of rollouts in a row without a signal
    passed  limit → batches of rollouts in a row that passed it
    first   numbers of the first rollouts
    events  for the log; `stop` the reason to save and end the run, "" without one
    """

    config: BrakesConfig
    factor: float = 1.0
    silent: int = 0
    passed: dict[str, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    stop: str = ""

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Act on `kl`, `entropy`, `distinct_2` and `frac_reward_zero_std` of the last rollouts."""
        self.silent = self.silent + 1 if metrics["frac_reward_zero_std"] >= 1 else 0
        for name in _SHARES:
            if name in metrics:
                self.first.setdefault(name, metrics[name])
        reason = self._violation(metrics)
        if not reason:
            return
        if self.config.action == "stop":
            self.stop = reason
            return
        self.factor /= 2
        self.passed, self.silent = {}, 0
        self.events.append(f"brake: {reason}. The rate is halved, to {self.factor:g} of its schedule")

    def _violation(self, metrics: Mapping[str, float]) -> str:
        reason = ""
        for name, (sign, side, unit, remedy) in _LIMITS.items():
            limit, first = getattr(self.config, name), self.first.get(name, 1.0)
            if limit is None or name not in metrics or not first:
                continue
            value = metrics[name] / first
            self.passed[name] = self.passed.get(name, 0) + 1 if (value - limit) * sign > 0 else 0
            if self.passed[name] >= self.config.patience:
                reason = reason or f"{name} is {value:.3g} {unit}, {side} brakes.{name}={limit:g}: {remedy}"
        if reason:
            return reason
        if self.silent >= (self.config.no_signal_batches or math.inf):
            why = "all completions of a prompt have one reward: the task is solved, out of reach or rewarded wrongly"
            return f"{self.silent} batches of rollouts in a row had no signal, as brakes.no_signal_batches says: {why}"
        return ""

    def state(self) -> dict[str, Any]:
        return {"factor": self.factor, "silent": self.silent, "passed": dict(self.passed), "first": dict(self.first)}
