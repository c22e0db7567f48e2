"""Learning-rate schedules as functions of the step."""

from math import cos, pi, sqrt
from typing import assert_never

from lmworks.train import optimizer_config as configs


def multiplier(schedule: configs.Schedule, step: float, steps: int) -> float:
    """The factor of the learning rate at step `step` (from 0) of a run of `steps`.

    The warm-up rises to 1 in equal steps, the first of which is not 0: a step without a rate would be wasted. A run
    shorter than its warm-up ends on the way up.
    """
    warmup = configs.warmup_steps(schedule)
    if step < warmup:
        return (step + 1) / warmup
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)  # of what follows the warm-up
    match schedule:
        case configs.Cosine(final=final):
            return final + (1 - final) * (1 + cos(pi * done)) / 2
        case configs.Linear(final=final):
            return final + (1 - final) * (1 - done)
        case configs.WarmupStableDecay(decay=decay, final=final, shape=shape):
            left = steps - step
            decaying = max(min(decay * steps, steps - warmup), 0)  # a decay begins when the warm-up has ended
            if left >= decaying:
                return 1.0
            decayed = 1 - left / decaying
            return final + (1 - final) * (1 - (sqrt(decayed) if shape == "sqrt" else decayed))
        case configs.InverseSqrt():
            return sqrt(warmup / (step + 1))
        case unknown:
            assert_never(unknown)
