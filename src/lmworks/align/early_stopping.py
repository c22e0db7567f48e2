"""Early stopping: end or slow a run whose policy collapses, with the reason."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmworks.align.config import RowStoppingConfig
from lmworks.align.online_config import StoppingConfig

# Name → sign and side of what is too much, its unit, what to do.
_LIMITS = {
    "kl": (1, "above", "nats a token from the reference", "raise algorithm.beta, or lower the rate"),
    "entropy": (-1, "below", "of the first rollouts' entropy", "raise algorithm.beta or clip_high"),
    "distinct_2": (-1, "below", "of the first rollouts' distinct pairs", "look at its completions, which repeat"),
    "log_ratio_chosen": (
        -1,
        "below",
        "nats a token (what people want got less likely, too)",
        "lower the rate, raise algorithm.beta, or hold it up by algorithm.nll or algorithm.desirable",
    ),
}
_SHARES = ("entropy", "distinct_2")  # of what the first rollouts had


@dataclass
class EarlyStopping:
    """Looks at the numbers of each batch of rollouts, or of each step with rows.

    factor  that the learning rate is multiplied with
    silent  batches of rollouts in a row without a signal
    passed  limit → how often in a row it was passed
    first   numbers of the first rollouts
    events  for the log; `stop` the reason to end the run, "" without one
    """

    config: StoppingConfig | RowStoppingConfig
    factor: float = 1.0
    silent: int = 0
    passed: dict[str, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    stop: str = ""

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Act on `kl`, `entropy`, `distinct_2` and `frac_reward_zero_std` of the last rollouts, or on the
        `log_ratio_chosen` of a step."""
        if (silent := metrics.get("frac_reward_zero_std")) is not None:
            self.silent = self.silent + 1 if silent >= 1 else 0
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
        self.events.append(f"early stopping: {reason}. The rate is halved, to {self.factor:g} of its schedule")

    def _violation(self, metrics: Mapping[str, float]) -> str:
        reason = ""
        for name, (sign, side, unit, remedy) in _LIMITS.items():
            limit, first = getattr(self.config, name, None), self.first.get(name, 1.0)
            if limit is None or name not in metrics or not first:
                continue
            value = metrics[name] / first
            self.passed[name] = self.passed.get(name, 0) + 1 if (value - limit) * sign > 0 else 0
            if self.passed[name] >= self.config.patience:
                reason = reason or f"{name} is {value:.3g} {unit}, {side} early_stopping.{name}={limit:g}: {remedy}"
        if reason:
            return reason
        if self.silent >= (getattr(self.config, "no_signal_batches", None) or math.inf):
            why = "all completions of a prompt have one reward: the task is solved, out of reach or rewarded wrongly"
            limit = "the limit early_stopping.no_signal_batches"
            return f"{self.silent} batches of rollouts in a row had no signal, {limit}: {why}"
        return ""
