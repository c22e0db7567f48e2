"""Completions with their rewards: what the policy's engine samples, or a fixed set of rated ones.

With the second, offline reinforcement learning, the ratios of `align/grpo.py` are to the policy at its beginning, under
which ln p is measured once. With `raft` the best completion of each prompt is imitated (best-of-n, or
rejection-sampling fine-tuning): the control that the others have to beat.
"""

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
from lmworks.data.training_rows import group_completions
from lmworks.evaluate.metric import Item, Response, Value
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.rollouts import Rollout, Turns, roll_out
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Rated, RejectedRecord, TextOrMessages, Unscored
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
        groups, numbers = list(self.groups), np.flatnonzero(at)
        for number, group in zip(numbers, others.groups, strict=True):
            groups[number] = group

        def put(values: Numbers, further: Numbers) -> Numbers:
            values = values.copy()
            values[numbers] = further
            return values

        parts = {name: put(values, others.parts[name]) for name, values in self.parts.items()}
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
            asked = [as_messages(prompt.item.prompt, "user") for prompt in prompts]
            turns = Turns(environment, renderer, asked, config.length, config.turns, [p.item for p in prompts])
            sampling = replace(sampling, constraint=constraint)
        ids = [prompt.ids for prompt in prompts]
        groups = roll_out(policy.engine, ids, size, sampling, key, adapter, places, turns)
        if sampling.constraint is not None:  # the policy's own distribution is what is learned, at temperature 1
            groups = [
                [replace(rollout, log_probabilities=rollout.model_log_probabilities) for rollout in g] for g in groups
            ]
        items = [prompt.item for prompt in prompts for _ in range(size)]
        rollouts = [rollout for group in groups for rollout in group]
        given, values, parts, rule = np.array([rollout.reward for rollout in rollouts], np.float64), [], {}, None
        # An environment that failed gave NaN.
        unrewarded = [number for number, rollout in enumerate(rollouts) if rollout.reward is None]
        if self.reward is not None:
            values = self.reward([items[n] for n in unrewarded], [Response(rollouts[n].text) for n in unrewarded])
            parts = getattr(self.reward, "parts", {})
            rule = getattr(self.reward, "rule", None)  # None: a plain function, which says itself what is right
        right = values if rule is None else parts.get(rule, [])

        def numbers(values: Sequence[Value], otherwise: Numbers) -> Numbers:
            filled = otherwise.copy()
            if len(values):
                filled[unrewarded] = [math.nan if isinstance(value, Unscored) else float(value) for value in values]  # type: ignore[arg-type]
            return filled.reshape(len(places), size)

        none, rewards = np.full_like(given, np.nan), numbers(values, given)
        if config.overlong:
            lengths = np.array([sum(rollout.sampled) for rollout in rollouts]).reshape(rewards.shape)
            rewards -= np.clip((lengths - config.max_completion_length) / config.overlong + 1, 0, 1)
        return Draw(groups, rewards, numbers(right, given), {n: numbers(v, none) for n, v in parts.items()})


def drawn(places: Sequence[int], batch: int, again: int, config: OnlineConfig, count: int) -> list[int]:
    """The numbers of `count` prompts that stand at these places of a batch: every prompt once before any twice."""
    numbers = []
    for place in places:
        epoch, within = divmod(batch * config.prompts + place, count)
        order = Permutation(count, f"{config.seed} {epoch} {again} prompts")
        numbers.append(int(order(np.array([within]))[0]))
    return numbers


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


@dataclass(slots=True)
class RatedCompletions:
    """Groups of rated completions; `completions[n]` and `ratings[n]` are those of prompt n."""

    fixed: ClassVar[bool] = True
    config: OnlineConfig
    completions: list[list[Rollout]]
    ratings: list[list[float]]

    @classmethod
    def of(
        cls, config: OnlineConfig, rows: Sequence[Rated], checkpoint: Checkpoint, left_out: list[RejectedRecord]
    ) -> "RatedCompletions":
        """Groups of rows with one prompt, in their order. ValueError where nothing can be compared."""
        groups, ratings = dict[str, list[Rollout]](), dict[str, list[float]]()
        tokens = group_completions(rows, checkpoint.chat, config.length, left_out)
        assert tokens.learned is not None
        parts = zip(*(np.split(column, tokens.ends[:-1]) for column in (tokens.tokens, tokens.learned)), strict=True)
        for (ids, learned), rating in zip(parts, tokens.columns["rating"].tolist(), strict=True):
            prompt, none = repr(ids[: learned.argmax()].tolist()), (0.0,) * len(ids)
            rollout = Rollout(tuple(ids.tolist()), tuple(learned.tolist()), none, none, "", "stop", 0, 0)
            groups.setdefault(prompt, []).append(rollout)
            ratings.setdefault(prompt, []).append(rating)
        compares = getattr(config.algorithm, "advantage", "batch") != "batch"
        if compares and not any(len(set(values)) > 1 for values in ratings.values()):
            raise ValueError(
                "no prompt has completions with two ratings, which this method compares: take algorithm.kind=ppo or "
                "algorithm.name=reinforce, which compare with those of other prompts"
            )
        return cls(config, list(groups.values()), list(ratings.values()))

    def measure(self, policy: Policy) -> None:
        """Set ln p of all completions, under the policy as it is now: call it before the first step."""
        for group in self.completions:
            log_probabilities = policy.log_probabilities(
                policy.reference, rollout_sequences(group), self.config.temperature
            )[0]
            for number, (rollout, line) in enumerate(zip(group, log_probabilities.tolist(), strict=True)):
                of_rollout = tuple(line[: len(rollout.ids)])
                group[number] = replace(rollout, log_probabilities=of_rollout, model_log_probabilities=of_rollout)

    def draw(self, places: Sequence[int], batch: int, again: int, policy: Policy, adapter: str) -> Draw:
        """Groups of `group_size` completions, of prompts with more of them some; with fewer, one stands there again
        without a reward, so that it counts for nothing."""
        size, groups, rewards = self.config.algorithm.group_size, [], []
        for number in drawn(places, batch, again, self.config, len(self.completions)):
            rollouts, rating = self.completions[number], self.ratings[number]
            chosen = [(batch * size + index) % len(rollouts) for index in range(min(size, len(rollouts)))]
            missing = size - len(chosen)
            groups.append([rollouts[index] for index in chosen] + [rollouts[0]] * missing)
            rewards.append([rating[index] for index in chosen] + [np.nan] * missing)
        return Draw(groups, np.array(rewards), np.full((len(places), size), np.nan))
