"""From minutes, rows and a method to all numbers of an offline run, each with its reason."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lmworks.align.config import KTOConfig, OfflineConfig, RewardConfig
from lmworks.data.token_groups import TokenGroups
from lmworks.train.config import TrainConfig
from lmworks.train.dial import at_rate
from lmworks.train.finetune_settings import TOGETHER, WARMUP, Reasons
from lmworks.train.optimizer_config import AdamW, peak_rate
from lmworks.train.parallel.ranks import device_of_rank

EPOCHS = 1.0  # unless asked for more: rows that are seen again are soon known by heart
BATCH, STEPS = 16, 50  # at most, and steps that there are to be
# Of AdamW at its highest. A policy's are a tenth of what fine-tuning takes, or it leaves its reference within steps; a
# new head has nothing to leave.
RATES = {"lora": 5e-5, "full": 1e-6}
REWARD_RATES = {"lora": 2e-4, "full": 1e-5}
_KTO_BATCH = 8  # rows at least, of which a baseline is the mean
_USED = 0.75  # of the minutes: the rest is loading, validation and the machine's own pace
_FORWARD = 1 / 3  # of the time of a step
_VALIDATED = 256  # rows at most
_VALIDATION = 0.15  # of the minutes at most
_POINTS = 50  # of the curve, at least


@dataclass(frozen=True, slots=True)
class OfflineSettings:
    """The numbers of a run.

    rows       Of all rows, those that are seen.
    batch      Rows in a step, `together` in a forward and backward.
    steps      Of the optimizer.
    validated  Held-out rows that are validated on.
    """

    rows: int
    batch: int
    together: int
    steps: int
    validated: int
    reasons: Reasons


def derive_offline(
    config: OfflineConfig, groups: TokenGroups, passes: float, seconds: Callable[[int], float]
) -> OfflineSettings:
    """The settings that the config leaves out.

    passes   Forwards of the reference over each row that is seen, before the first step.
    seconds  Rows of a forward → of a real step, for each token; asked where minutes decide.
    """
    tokens = np.add.reduceat(groups.lengths, groups.first[:-1])  # (rows,): of all sequences of each
    there, mean = len(groups), float(tokens.mean())
    together = max(int(TOGETHER.get(device_of_rank().type, 2048) // np.quantile(tokens, 0.95)), 1)
    together = config.train.micro_batch or together
    epochs, why, rows, validated = (
        config.epochs or EPOCHS,
        "as set" if config.epochs else "unless set",
        there,
        _VALIDATED,
    )
    reasons: list[tuple[str, str, str]] = []
    if config.minutes is not None and config.steps is None:
        each = seconds(together)
        budget = 60 * config.minutes / (each * mean)  # rows that could be trained on
        validated = int(min(_VALIDATED, max(_VALIDATION * budget / (_FORWARD * (2 + passes)), 8)))
        reasons.append(("speed", f"{1 / each:,.0f} tokens/s", "measured with some steps of this run"))
        affordable = _USED * budget / there - passes * _FORWARD
        if affordable < epochs:
            epochs, why = max(affordable, 1.0), f"so many fit into {config.minutes:g} minutes"
            rows = min(max(int(_USED * budget / (1 + passes * _FORWARD)), 2), there) if affordable < 1 else there
        why = f"once each: no more fit into {config.minutes:g} minutes" if rows < there else why
    least = _KTO_BATCH if isinstance(config.algorithm, KTOConfig) else 1
    batch = min(config.batch or max(min(int(epochs * rows / STEPS), BATCH), least), rows)
    steps = config.steps or max(round(epochs * rows / batch), 1)
    reasons += [
        ("rows seen", f"{rows:,} of {there:,}", f"of {mean:,.0f} tokens on average; {why}"),
        ("epochs", f"{steps * batch / rows:.3g}", "as set" if config.epochs else "of these steps"),
        (
            "batch",
            f"{batch:,}",
            "as set" if config.batch == batch else f"at most {BATCH}, so that there are {STEPS} steps",
        ),
        ("steps", f"{steps:,}", "as set" if config.steps else "epochs times rows, by the batch"),
    ]
    return OfflineSettings(rows, batch, together, steps, validated, tuple(reasons))


def train_settings(config: OfflineConfig, settings: OfflineSettings) -> TrainConfig:
    """The loop's config with rate, warm-up and how often to log and validate."""
    rates = REWARD_RATES if isinstance(config.algorithm, RewardConfig) else RATES
    own = isinstance(config.train.optimizer, AdamW) and config.train.optimizer.rate is None
    rate = config.rate or (rates[config.method.kind] if own else peak_rate(config.train.optimizer))
    schedule, steps = config.train.schedule, settings.steps
    if schedule.warmup is None:
        schedule = replace(schedule, warmup=math.ceil(WARMUP * steps))
    often = steps if config.minutes is not None else config.train.validate
    return replace(
        at_rate(config.train, rate),
        schedule=schedule,
        micro_batch=min(settings.together, settings.batch),
        log=min(config.train.log, max(steps // _POINTS, 1)),
        validate=config.train.validate and min(often or steps, steps),
    )
