"""Completions that the policy's engine samples, with their rewards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
from lmworks.records import TextOrMessages, Unscored
from lmworks.tokenizer.chat import ChatRenderer

Reward = Callable[[Sequence[Item], Sequence[Response]], Sequence[Value]]  # `Metric.measure`, of one number each
Numbers = NDArray[np.float64]  # (prompts, group_size), NaN where there is none


@dataclass(frozen=True, slots=True)
class Draw:
    """Completions of some prompts and what they are worth.

    rewards  what is learned from
    right    1 or more for a right completion: the value of the reward's rule, or what an environment gave
    parts    of the rewards, by name, without their weights
    """

    groups: list[list[Rollout]]
    rewards: Numbers
    right: Numbers
    parts: dict[str, Numbers] = field(default_factory=dict)

    def with_others(self, at: NDArray[np.bool_], others: "Draw") -> "Draw":
        """With others in place of the prompts `at` (prompts,)."""
        groups, places = list(self.groups), np.flatnonzero(at)
        for place, group in zip(places, others.groups, strict=True):
            groups[place] = group

        def put(own: Numbers, further: Numbers) -> Numbers:
            own = own.copy()
            own[places] = further
            return own

        parts = {name: put(own, others.parts[name]) for name, own in self.parts.items()}
        return Draw(groups, put(self.rewards, others.rewards), put(self.right, others.right), parts)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's ids, and the item that rewards look at."""

    ids: tuple[int, ...]
    item: Item

    @property
    def prompt(self) -> TextOrMessages:
        return self.item.prompt


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

    def draw(self, places: Sequence[int], batch: int, again: int, policy: Policy, adapter: str) -> Draw:
        """Groups for these places of a batch of rollouts, redrawn for the time `again`; the errors are those of
        `roll_out`."""
        config, size = self.config, self.config.algorithm.group_size
        prompts = [self.prompts[n] for n in drawn(places, batch, again, config, len(self.prompts))]
        sampling = SamplingParameters(config.max_completion_length, config.temperature)
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
        given, values, parts, rule = np.array([one.reward for one in rollouts], np.float64), [], {}, None
        rest = [n for n, one in enumerate(rollouts) if one.reward is None]  # an environment that failed gave NaN
        if self.reward is not None:
            values = self.reward([items[n] for n in rest], [Response(rollouts[n].text) for n in rest])
            parts = getattr(self.reward, "parts", {})
            rule = getattr(self.reward, "rule", None)  # None: a plain function, which says itself what is right
        right = values if rule is None else parts.get(rule, [])

        def numbers(values: Sequence[Value], otherwise: Numbers) -> Numbers:
            found = otherwise.copy()
            if len(values):
                found[rest] = [math.nan if isinstance(value, Unscored) else float(value) for value in values]  # type: ignore[arg-type]
            return found.reshape(len(places), size)

        none, rewards = np.full_like(given, np.nan), numbers(values, given)
        if config.overlong:
            lengths = np.array([sum(one.sampled) for one in rollouts]).reshape(rewards.shape)
            rewards -= np.clip((lengths - config.max_completion_length) / config.overlong + 1, 0, 1)
        return Draw(groups, rewards, numbers(right, given), {n: numbers(v, none) for n, v in parts.items()})


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
    lengths = torch.tensor([len(rollout.ids) for rollout in rollouts])
    ids = torch.zeros(len(rollouts), int(lengths.max()), dtype=torch.int64)
    mask, sampled = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
    for row, rollout in enumerate(rollouts):
        ids[row, : lengths[row]] = torch.tensor(rollout.ids)
        mask[row, : lengths[row]] = torch.tensor(rollout.sampled)
        sampled[row, : lengths[row]] = torch.tensor(rollout.log_probabilities)
    return Sequences(ids, mask, lengths, {"sampled": sampled})
