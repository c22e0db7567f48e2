"""A fixed set of rated completions in place of what a policy samples: offline reinforcement learning.

    rows Rated → groups by prompt → ln p under the policy at its beginning, once → `RolloutLoader`

The ratios of `align/policy_gradient.py` and `align/ppo.py` are then to the policy at its beginning. With `raft` the
best completion of each prompt is imitated (best-of-n, or rejection-sampling fine-tuning): the control that the others
have to beat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import OnlineConfig
from lmworks.align.policy import Policy
from lmworks.align.sampled_completions import Groups, drawn
from lmworks.data.completion_groups import group_completions
from lmworks.generate.rollouts import Rollout
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import LeftOut, Rated

_ROWS = 64  # of which ln p is computed together


@dataclass(slots=True)
class RatedCompletions:
    """Groups of rated completions; `completions[n]` and `ratings[n]` are those of prompt n."""

    config: OnlineConfig
    completions: list[list[Rollout]]
    ratings: list[list[float]]
    fixed: bool = True

    @classmethod
    def of(
        cls, config: OnlineConfig, rows: Sequence[Rated], checkpoint: Checkpoint, left_out: list[LeftOut]
    ) -> "RatedCompletions":
        """Groups of rows with one prompt, in their order. ValueError where nothing can be compared."""
        groups, ratings = dict[str, list[Rollout]](), dict[str, list[float]]()
        tokens = group_completions(rows, checkpoint.chat, config.length, left_out)
        assert tokens.learned is not None
        start = 0
        for end, rating in zip(tokens.ends.tolist(), tokens.columns["rating"].tolist(), strict=True):
            ids, learned = tuple(tokens.tokens[start:end].tolist()), tuple(tokens.learned[start:end].tolist())
            prompt = repr(ids[: learned.index(True)])
            none = (0.0,) * len(ids)
            groups.setdefault(prompt, []).append(Rollout(ids, learned, none, none, "", "stop", 0, 0))
            ratings.setdefault(prompt, []).append(rating)
            start = end
        compares = getattr(config.algorithm, "advantage", "batch") != "batch"
        if compares and not any(len(set(found)) > 1 for found in ratings.values()):
            raise ValueError(
                "no prompt has completions with two ratings, which this method compares: take algorithm.kind=ppo or "
                "algorithm.name=reinforce, which compare with those of other prompts"
            )
        return cls(config, list(groups.values()), list(ratings.values()))

    @property
    def metrics(self) -> Mapping[str, float]:
        """Nothing beside the ratings."""
        return {}

    def measure(self, policy: Policy) -> None:
        """Set ln p of all completions, under the policy as it is now: call it before the first step."""
        flat = [rollout for group in self.completions for rollout in group]
        found: list[Rollout] = []
        for start in range(0, len(flat), _ROWS):
            rows = flat[start : start + _ROWS]
            values, _ = policy.log_probabilities(policy.reference, padded(rows), self.config.temperature)
            for row, line in zip(rows, values.tolist(), strict=True):
                own = tuple(line[: len(row.ids)])
                found.append(Rollout(row.ids, row.sampled, own, own, row.text, row.finish_reason, 0, 0))
        ready = iter(found)
        self.completions = [[next(ready) for _ in group] for group in self.completions]

    def draw(self, places: Sequence[int], batch: int, again: int, policy: Policy, adapter: str) -> Groups:
        """Groups of `group_size` completions, of prompts with more of them some; with fewer, one stands there again
        without a reward, so that it counts for nothing."""
        size, groups, rewards = self.config.algorithm.group_size, [], []
        for number in drawn(places, batch, again, self.config, len(self.completions)):
            own, rating = self.completions[number], self.ratings[number]
            shift = batch * size % len(own)
            chosen = [(shift + n) % len(own) for n in range(min(size, len(own)))]
            missing = size - len(chosen)
            groups.append([own[n] for n in chosen] + [own[0]] * missing)
            rewards.append([rating[n] for n in chosen] + [np.nan] * missing)
        return groups, np.array(rewards)


def padded(rollouts: Sequence[Rollout]) -> Sequences:
    """Rollouts as tensors, padded behind."""
    real = torch.tensor([len(rollout.ids) for rollout in rollouts])
    ids = torch.zeros(len(rollouts), int(real.max()), dtype=torch.int64)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, rollout in enumerate(rollouts):
        ids[row, : len(rollout.ids)] = torch.tensor(rollout.ids)
        mask[row, : len(rollout.ids)] = torch.tensor(rollout.sampled)
    return Sequences(ids, mask, real)
