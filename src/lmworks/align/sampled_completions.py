"""Completions that the policy's engine samples, with their rewards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.align.environments import Episodes
from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import OnlineConfig
from lmworks.align.policy import Policy
from lmworks.data.conversations import as_messages
from lmworks.data.shuffle import Permutation
from lmworks.evaluate.metric import Item, Response, Value
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.rollouts import Rollout, Turns, roll_out
from lmworks.records import Unscored
from lmworks.tokenizer.chat import ChatRenderer

Reward = Callable[[Sequence[Item], Sequence[Response]], Sequence[Value]]  # `Metric.measure`, of one number each
Groups = tuple[list[list[Rollout]], NDArray[np.float64]]  # and rewards (prompts, group_size), NaN where there is none


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's ids, and the item that rewards look at."""

    ids: tuple[int, ...]
    item: Item


@dataclass(frozen=True, slots=True)
class SampledCompletions:
    """Samples that depend on the seed and on place, batch and `again` alone: not on how many processes draw, nor on
    whether the run was interrupted.

    reward    None: the environment's alone
    episodes  with the renderer of what is said in them: completions are several turns, and what the environment gives
              is their reward, where it gives any
    """

    fixed: ClassVar[bool] = False  # they are the policy's
    config: OnlineConfig
    prompts: Sequence[Prompt]
    reward: Reward | None
    episodes: tuple[Episodes, ChatRenderer] | None = None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers beside the reward's sum, of the completions that were drawn last."""
        return {name: value for name, value in getattr(self.reward, "metrics", {}).items() if "/" in name}

    def draw(self, places: Sequence[int], batch: int, again: int, policy: Policy, adapter: str) -> Groups:
        """Groups for these places of a batch of rollouts, drawn anew for the time `again`; the errors are those of
        `roll_out`."""
        config, size = self.config, self.config.algorithm.group_size
        prompts = [self.prompts[n] for n in drawn(places, batch, again, config, len(self.prompts))]
        sampling = SamplingParameters(config.completion, config.temperature)
        key = f"{config.seed} {batch} {again}"
        assert policy.engine is not None
        turns = None
        if self.episodes is not None:
            (environment, _, constraint), renderer = self.episodes
            asked = [as_messages(each.item.prompt, "user") for each in prompts]
            turns = Turns(environment, renderer, asked, config.length, config.turns, [p.item for p in prompts])
            sampling = replace(sampling, constraint=constraint)
        ids = [each.ids for each in prompts]
        groups = roll_out(policy.engine, ids, size, sampling, key, adapter, places, turns)
        if sampling.constraint is not None:  # the policy's own distribution is what is learned, at temperature 1
            groups = [[replace(one, log_probabilities=one.model_log_probabilities) for one in g] for g in groups]
        items = [prompt.item for prompt in prompts for _ in range(size)]
        rollouts = [rollout for group in groups for rollout in group]
        rewards = np.array([math.nan if each.reward is None else each.reward for each in rollouts])
        if self.reward is not None:
            rest = [place for place, each in enumerate(rollouts) if each.reward is None]
            values = self.reward([items[n] for n in rest], [Response(rollouts[n].text) for n in rest])
            rewards[rest] = [math.nan if isinstance(value, Unscored) else float(value) for value in values]  # type: ignore[arg-type]
        return groups, rewards.reshape(len(places), size)


def drawn(places: Sequence[int], batch: int, again: int, config: OnlineConfig, count: int) -> list[int]:
    """The numbers of `count` prompts that stand at these places of a batch: every prompt once before any twice."""
    found = []
    for place in places:
        epoch, within = divmod(batch * config.prompts + place, count)
        order = Permutation(count, f"{config.seed} {epoch} {again} prompts")
        found.append(int(order(np.array([within]))[0]))
    return found


def rollout_sequences(rollouts: Sequence[Rollout]) -> Sequences:
    """Rollouts as tensors, with the column `sampled`."""
    real = torch.tensor([len(rollout.ids) for rollout in rollouts])
    ids = torch.zeros(len(rollouts), int(real.max()), dtype=torch.int64)
    mask, sampled = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
    for row, rollout in enumerate(rollouts):
        ids[row, : real[row]] = torch.tensor(rollout.ids)
        mask[row, : real[row]] = torch.tensor(rollout.sampled)
        sampled[row, : real[row]] = torch.tensor(rollout.log_probabilities)
    return Sequences(ids, mask, real, {"sampled": sampled})
