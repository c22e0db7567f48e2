"""A fixed set of rated completions in place of what a policy samples: offline reinforcement learning.

    rows Rated → groups by prompt → ln p under the policy at its beginning, once → `RolloutLoader`

The ratios of `align/grpo.py` are then to the policy at its beginning. With `raft` the best completion of
each prompt is imitated (best-of-n, or rejection-sampling fine-tuning): the control that the others have to beat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lmworks.align.online_config import OnlineConfig
from lmworks.align.policy import Policy
from lmworks.align.sampled_completions import Draw, drawn, rollout_sequences
from lmworks.data.training_rows import group_completions
from lmworks.generate.rollouts import Rollout
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Rated, RejectedRecord


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
        parts = zip(*(np.split(each, tokens.ends[:-1]) for each in (tokens.tokens, tokens.learned)), strict=True)
        for (ids, learned), rating in zip(parts, tokens.columns["rating"].tolist(), strict=True):
            prompt, none = repr(ids[: learned.argmax()].tolist()), (0.0,) * len(ids)
            one = Rollout(tuple(ids.tolist()), tuple(learned.tolist()), none, none, "", "stop", 0, 0)
            groups.setdefault(prompt, []).append(one)
            ratings.setdefault(prompt, []).append(rating)
        compares = getattr(config.algorithm, "advantage", "batch") != "batch"
        if compares and not any(len(set(found)) > 1 for found in ratings.values()):
            raise ValueError(
                "no prompt has completions with two ratings, which this method compares: take algorithm.kind=ppo or "
                "algorithm.name=reinforce, which compare with those of other prompts"
            )
        return cls(config, list(groups.values()), list(ratings.values()))

    def measure(self, policy: Policy) -> None:
        """Set ln p of all completions, under the policy as it is now: call it before the first step."""
        for group in self.completions:
            found = policy.log_probabilities(policy.reference, rollout_sequences(group), self.config.temperature)[0]
            for number, (one, line) in enumerate(zip(group, found.tolist(), strict=True)):
                own = tuple(line[: len(one.ids)])
                group[number] = replace(one, log_probabilities=own, model_log_probabilities=own)

    def draw(self, places: Sequence[int], batch: int, again: int, policy: Policy, adapter: str) -> Draw:
        """Groups of `group_size` completions, of prompts with more of them some; with fewer, one stands there again
        without a reward, so that it counts for nothing."""
        size, groups, rewards = self.config.algorithm.group_size, [], []
        for number in drawn(places, batch, again, self.config, len(self.completions)):
            own, rating = self.completions[number], self.ratings[number]
            chosen = [(batch * size + n) % len(own) for n in range(min(size, len(own)))]
            missing = size - len(chosen)
            groups.append([own[n] for n in chosen] + [own[0]] * missing)
            rewards.append([rating[n] for n in chosen] + [np.nan] * missing)
        return Draw(groups, np.array(rewards), np.full((len(places), size), np.nan))
