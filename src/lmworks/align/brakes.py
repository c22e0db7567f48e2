"""Brakes: what stops or slows a run whose policy collapses, and says why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmworks.align.online_config import BrakesConfig

_REMEDIES = {
    "kl": "raise algorithm.beta, or lower the rate",
    "entropy": "raise algorithm.beta or temperature, lower the rate, or take clip_high of dapo",
    "distinct_2": "it repeats itself: look at its completions, reward what is wanted of them, and lower the rate",
    "silent_steps": "all completions of a prompt have one reward: the task is solved, out of reach or rewarded wrongly",
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
        if reason is None or self.wait:
            return
        if self.config.action == "stop":
            self.stop = reason
            return
        self.factor /= 2
        self.wait, self.silent = self.config.patience, 0
        self.events.append(f"brake: {reason}. The rate is halved, to {self.factor:g} of its schedule")

    def _violation(self, metrics: Mapping[str, float]) -> str | None:
        limits = self.config
        for name, limit, sign, unit in (
            ("kl", limits.kl, 1, "nats a token from the reference"),
            ("entropy", limits.entropy, -1, "nats a token"),
            ("distinct_2", limits.distinct_2, -1, "of neighbouring tokens are distinct pairs"),
        ):
            if limit is not None and name in metrics and (metrics[name] - limit) * sign > 0:
                side = "above" if sign > 0 else "below"
                return f"{name} is {metrics[name]:.3g} {unit}, {side} brakes.{name}={limit:g}: {_REMEDIES[name]}"
        if limits.silent_steps is not None and self.silent >= limits.silent_steps:
            return (
                f"{self.silent} batches of rollouts in a row had no signal, as brakes.silent_steps says (mean reward "
                f"{metrics.get('reward', 0.0):.3g}): {_REMEDIES['silent_steps']}"
            )
        return None

    def state(self) -> dict[str, Any]:
        return {"factor": self.factor, "silent": self.silent, "wait": self.wait}
