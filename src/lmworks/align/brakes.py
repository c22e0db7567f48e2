"""Brakes: what stops or slows a run whose policy collapses, and says why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmworks.align.online_config import BrakesConfig

# Name → sign and side of what is too much, its unit, what to do.
_LIMITS = {
    "kl": (1, "above", "nats a token from the reference", "raise algorithm.beta, or lower the rate"),
    "entropy": (-1, "below", "nats a token", "raise algorithm.beta or temperature, or take clip_high of dapo"),
    "distinct_2": (-1, "below", "of neighbouring tokens are distinct pairs", "look at its completions, which repeat"),
}


@dataclass
class Brakes:
    """Looks at the numbers of each batch of rollouts.

    factor  that the learning rate is multiplied with
    silent  batches of rollouts in a row without a signal
    wait    batches before the next look, after the rate was lowered
    events  for the log; `stop` the reason to save and end the run, "" without one
    """

    config: BrakesConfig
    factor: float = 1.0
    silent: int = 0
    wait: int = 0
    events: list[str] = field(default_factory=list)
    stop: str = ""

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Act on `kl`, `entropy`, `distinct_2` and `without_signal` of the last rollouts."""
        self.silent = self.silent + 1 if metrics["without_signal"] >= 1 else 0
        self.wait = max(self.wait - 1, 0)
        reason = self._violation(metrics)
        if not reason or self.wait:
            return
        if self.config.action == "stop":
            self.stop = reason
            return
        self.factor /= 2
        self.wait, self.silent = self.config.patience, 0
        self.events.append(f"brake: {reason}. The rate is halved, to {self.factor:g} of its schedule")

    def _violation(self, metrics: Mapping[str, float]) -> str:
        for name, (sign, side, unit, remedy) in _LIMITS.items():
            limit = getattr(self.config, name)
            if limit is not None and name in metrics and (metrics[name] - limit) * sign > 0:
                return f"{name} is {metrics[name]:.3g} {unit}, {side} brakes.{name}={limit:g}: {remedy}"
        if self.silent >= (self.config.silent_steps or math.inf):
            why = "all completions of a prompt have one reward: the task is solved, out of reach or rewarded wrongly"
            return f"{self.silent} batches of rollouts in a row had no signal, as brakes.silent_steps says: {why}"
        return ""

    def state(self) -> dict[str, Any]:
        return {"factor": self.factor, "silent": self.silent, "wait": self.wait}
