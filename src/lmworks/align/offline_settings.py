"""From minutes, rows and a method to all numbers of an offline run, each with its reason."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lmworks.align.config import KTOConfig, OfflineConfig, RewardConfig
from lmworks.data.token_groups import TokenGroups
from lmworks.train.optimizer_config import AdamW, peak_rate
from lmworks.train.settings import Reasons, batch_and_steps, for_steps, rows_together, speed_reason, within_minutes

EPOCHS = 1.0  # unless asked for more: rows that are seen again are soon known by heart
BATCH, STEPS = 16, 50  # at most, and steps that there are to be
# Of AdamW at its highest. A policy's are a tenth of what fine-tuning takes, or it leaves its reference within steps; a
# new head has nothing to leave.
RATES = {"lora": 5e-5, "full": 1e-6}
REWARD_RATES = {"lora": 2e-4, "full": 1e-5}
_KTO_BATCH = 8  # rows at least, of which a baseline is the mean
_USED = 0.75  # of the minutes: the rest is loading, validation and the machine's own pace
_FORWARD = 1 / 3  # of the time of a step


def derive_offline(
    config: OfflineConfig, groups: TokenGroups, referenced: bool, seconds: Callable[[int], float]
) -> tuple[OfflineConfig, Reasons]:
    """The config with the settings that it leaves out: steps, batch, rate, warm-up, how often to look.

    referenced  Whether a reference reads each row that is seen, before the first step.
    seconds     Rows of a forward → of a real step, for each token; asked where minutes decide.
    """
    tokens = np.add.reduceat(groups.lengths, groups.first[:-1])  # (rows,): of all sequences of each
    rows, mean, why = len(groups), float(tokens.mean()), "as set" if config.epochs else "unless set"
    together, epochs = config.train.micro_batch or rows_together(tokens), config.epochs or EPOCHS
    reasons: list[tuple[str, str, str]] = []
    if config.minutes is not None and config.steps is None:
        seconds_each = seconds(together)
        reasons.append(speed_reason(1 / seconds_each))
        epochs, why = within_minutes(
            config.minutes, epochs, why, seconds_each * mean * rows, _USED, referenced * _FORWARD
        )
    least = max(_KTO_BATCH if isinstance(config.algorithm, KTOConfig) else 1, config.train.parallel.data)
    enough = config.steps or STEPS
    batch, steps = batch_and_steps(rows, epochs, config.batch, config.steps, enough, BATCH, least)
    rates = REWARD_RATES if isinstance(config.algorithm, RewardConfig) else RATES
    default_rate = isinstance(config.train.optimizer, AdamW) and config.train.optimizer.rate is None
    rate = config.rate or (rates[config.method.kind] if default_rate else peak_rate(config.train.optimizer))
    often = config.train.validate
    train = for_steps(config.train, steps, rate, often and (steps if config.minutes is not None else min(often, steps)))
    train = replace(train, micro_batch=min(together, batch))
    reasons += [
        ("rows seen", f"{min(steps * batch, rows):,} of {rows:,}", f"of {mean:,.0f} tokens on average"),
        ("epochs", f"{steps * batch / rows:.3g}", "of these steps" if config.steps else why),
        ("batch", f"{batch:,}", "as set" if config.batch == batch else f"at most {BATCH}, to have {enough} steps"),
        ("steps", f"{steps:,}", "as set" if config.steps else "epochs times rows, by the batch"),
        ("rate", f"{rate:g}", f"at its highest, of {config.train.optimizer.kind}"),
    ]
    return replace(config, steps=steps, epochs=None, batch=batch, rate=rate, train=train), tuple(reasons)
