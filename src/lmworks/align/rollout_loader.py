"""Batches of rollouts: what `train.loop` reads in reinforcement learning.

prompts → completions of the engine that has the policy's weights → rewards → advantages → `RolloutBatch`

All that is drawn follows from the seed and from numbers of batch, prompt and sample, so that a run that was killed goes
on with the same rollouts, and several processes draw what one would; rollouts that updates still wait for are a part of
the loader's state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from lmworks.align.advantages import group_advantages, without_signal
from lmworks.align.brakes import Brakes
from lmworks.align.dpo import REFERENCE
from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import STEPS, GRPOConfig, OnlineConfig, OnlineDPOConfig, PPOConfig
from lmworks.align.policy import Policy
from lmworks.align.policy_gradient import RolloutBatch, kl_estimate
from lmworks.align.ppo import critic_of, generalised_advantages, next_beta, token_rewards, whiten
from lmworks.align.rated_completions import padded
from lmworks.align.sampled_completions import Completions, Groups
from lmworks.data.order import Permutation
from lmworks.data.token_groups import GroupBatch, TokenGroup, join_groups
from lmworks.generate.rollouts import Rollout
from lmworks.train.parallel.ranks import ALONE, Ranks

_DRAWS = 4  # times that prompts without a signal are replaced


@dataclass
class RolloutLoader:
    """Batches for `train.loop`, of `config.prompts` prompts each, `config.algorithm.updates` times.

    policy   set when the run is there
    metrics  of the last rollouts, for the log, means over all processes: `reward`, `reward_std`, `without_signal`
             (groups of one reward), `unscored`, `length`, `truncated`, `entropy` (of the sampled tokens, -ln p), `kl`
             (k3 to the reference), `gap_max` (largest difference between the engine's ln p and the trainer's),
             `pass_at_k` (groups with a reward of 1), `distinct_2` (Li et al. 2016)
    beta     of PPO, where it follows the divergence
    """

    config: OnlineConfig
    completions: Completions
    ranks: Ranks = ALONE
    policy: Policy | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    stall_share: float = 0.0
    beta: float = 0.0
    brakes: Brakes = field(init=False)
    _buffer: RolloutBatch | None = None

    def __post_init__(self) -> None:
        if isinstance(self.config.algorithm, GRPOConfig):
            self.config = replace(self.config, algorithm=self.config.algorithm.resolved)
        self.brakes = Brakes(self.config.brakes)
        self.beta = getattr(self.config.algorithm, "beta", 0.0)
        self.rank, self.world_size = self.ranks.rows

    @property
    def steps(self) -> int:
        return self.config.steps or STEPS

    def __next__(self) -> RolloutBatch | GroupBatch:
        if self.step >= self.steps:
            raise StopIteration
        algorithm = self.config.algorithm
        if self.step % algorithm.updates == 0:
            batch = self._roll_out()
            self._buffer = batch if isinstance(batch, RolloutBatch) else None
            if not isinstance(batch, RolloutBatch):
                self.step += 1
                return batch
        assert self._buffer is not None
        self.step += 1
        parts = algorithm.updates // algorithm.epochs
        return self._buffer if parts == 1 else self._part((self.step - 1) % algorithm.updates, parts)

    def _part(self, update: int, parts: int) -> RolloutBatch:
        """One of equal parts of the buffer, drawn anew in each epoch."""
        assert self._buffer is not None
        epoch, number = divmod(update, parts)
        key = f"{self.config.seed} {(self.step - 1) // self.config.algorithm.updates} {epoch} parts"
        order = Permutation(len(self._buffer), key)
        return self._buffer.select(torch.from_numpy(order(np.arange(number, len(self._buffer), parts))))

    # -----------------------------------------------------------------------------------------------------------------
    # Rollouts

    def _roll_out(self) -> RolloutBatch | GroupBatch:
        assert self.policy is not None
        groups, rewards = self._draw(self.policy.refresh(self.step))
        rollouts = [rollout for group in groups for rollout in group]
        batch = self._with_log_probabilities(RolloutBatch.of(padded(rollouts), rollouts))
        self._measure(rollouts, rewards, batch)
        match algorithm := self.config.algorithm:
            case OnlineDPOConfig():
                return _pairs(groups, rewards, batch.columns["reference"])
            case PPOConfig():
                return self._with_critic(_scored(batch, rewards), rewards, algorithm)
        scored = _scored(batch, rewards)
        if algorithm.mask_truncated:
            ended = torch.tensor([rollout.finish_reason != "length" for rollout in rollouts])
            scored = replace(scored, mask=scored.mask & ended[:, None])
        if self.beta and algorithm.kl == "reward":
            change = ((batch.columns["old"] - batch.columns["reference"]) * batch.mask).sum(-1)
            rewards = rewards - self.beta * change.double().numpy().reshape(rewards.shape)
        advantages = group_advantages(rewards, algorithm.advantage or "group", self._mean(rewards))
        column = torch.from_numpy(advantages).float().flatten()[:, None] * scored.mask
        return replace(scored, columns={**scored.columns, "advantages": column})

    def _draw(self, adapter: str) -> Groups:
        """Completions of this process's share of the next prompts. ValueError where the first of all have one reward,
        and others of as many prompts, too."""
        config, policy = self.config, self.policy
        assert policy is not None
        shares = [config.prompts * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        places, batch = np.arange(*shares), self.step // config.algorithm.updates
        groups, rewards = self.completions.draw(places.tolist(), batch, 0, policy, adapter)
        if self.completions.fixed:
            return groups, rewards
        for again in range(1, _DRAWS + 1):
            silent = self._silent(rewards)
            nothing = not self.step and not self.ranks.any(bool((~silent).any()))
            dynamic = isinstance(config.algorithm, GRPOConfig) and config.algorithm.dynamic_sampling
            if not nothing and not (dynamic and self.ranks.any(bool(silent.any()))):
                return groups, rewards
            if silent.any():
                further, found = self.completions.draw(places[silent].tolist(), batch, again, policy, adapter)
                for place, group, values in zip(np.flatnonzero(silent), further, found, strict=True):
                    groups[place], rewards[place] = group, values
        if not self.step and not self.ranks.any(bool((~self._silent(rewards)).any())):
            raise ValueError(
                f"the reward is {np.nanmean(rewards) if np.isfinite(rewards).any() else 'missing'} for all completions "
                f"of {(_DRAWS + 1) * config.prompts} prompts before the first step: there is nothing to learn from. "
                "Look at what it rewards, fine-tune the model on the task first, or raise temperature or group_size"
            )
        return groups, rewards

    def _silent(self, rewards: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(groups,): whether nothing is learned from a group; where completions are compared with those of all
        prompts, from none or from each."""
        algorithm = self.config.algorithm
        if not isinstance(algorithm, PPOConfig) and getattr(algorithm, "advantage", "group") != "batch":
            return without_signal(rewards)
        known = rewards[np.isfinite(rewards)]
        highest, lowest = self.ranks.most([known.max(initial=-np.inf), -known.min(initial=np.inf)])
        return np.full(len(rewards), highest + lowest < 1e-12)

    def _with_log_probabilities(self, batch: RolloutBatch) -> RolloutBatch:
        """With the columns that the algorithm reads; what is only measured, of the first group alone."""
        algorithm, policy, temperature = self.config.algorithm, self.policy, self.config.temperature
        assert policy is not None
        everything = Sequences(batch.ids, batch.mask, batch.real)
        first, columns = Sequences(*(part[: algorithm.group_size] for part in everything)), dict(batch.columns)
        critic = critic_of(policy.model) if isinstance(algorithm, PPOConfig) else None
        if self.completions.fixed:
            columns |= {"old": columns["sampled"], "reference": columns["sampled"]}
            if critic is not None:
                columns["values"] = policy.log_probabilities(policy.model, everything, temperature, critic)[1]
            return replace(batch, columns=columns)
        rewarded = bool(self.beta) and getattr(algorithm, "kl", "reward") == "reward"
        keeps_old = algorithm.updates > 1 or critic is not None or rewarded
        keeps_reference = bool(self.beta) or critic is not None or isinstance(algorithm, OnlineDPOConfig)
        old, values = policy.log_probabilities(
            policy.model, everything if keeps_old else first, temperature, critic
        )  # (sequences or those of the first group, length)
        reference, _ = policy.log_probabilities(policy.reference, everything if keeps_reference else first, temperature)
        shared = min(len(old), len(reference))
        mask = batch.mask[:shared]
        kl = (kl_estimate(old[:shared], reference[:shared], "k3") * mask).sum() / mask.sum().clamp(min=1)
        gap = ((old - columns["sampled"][: len(old)]).abs() * batch.mask[: len(old)]).max()
        self.metrics = {"kl": float(kl), "gap_max": float(gap)}
        columns |= {"old": old} if keeps_old else {}
        columns |= {"reference": reference} if keeps_reference else {}
        columns |= {"values": values} if critic is not None else {}
        return replace(batch, columns=columns)

    def _with_critic(self, batch: RolloutBatch, rewards: NDArray[np.float64], algorithm: PPOConfig) -> RolloutBatch:
        columns, mask = batch.columns, batch.mask
        scores = torch.from_numpy(np.nan_to_num(rewards)).float().flatten()
        each = token_rewards(scores, columns["old"], columns["reference"], mask, self.beta)
        found = generalised_advantages(each, columns["values"], mask, algorithm.discount, algorithm.trace)
        returns = (found + columns["values"]) * mask
        advantages = whiten(found, mask, self.ranks) if algorithm.whiten else found
        self.beta = next_beta(self.beta, self.metrics.get("kl", 0.0), algorithm.kl_target)
        return replace(batch, columns={**columns, "advantages": advantages, "returns": returns})

    def _mean(self, rewards: NDArray[np.float64]) -> float:
        """The mean of all processes' rewards."""
        known = rewards[np.isfinite(rewards)]
        total, count = self.ranks.total([float(known.sum()), len(known)])
        return total / max(count, 1)

    def _measure(self, rollouts: Sequence[Rollout], rewards: NDArray[np.float64], batch: RolloutBatch) -> None:
        known = rewards[np.isfinite(rewards)]
        sampled = batch.columns["sampled"][batch.mask]
        nats, count = self.ranks.total([-float(sampled.double().sum()), len(sampled)])
        numbers = {
            **(self.metrics if not self.completions.fixed else {}),
            "reward": float(known.mean()) if len(known) else 0.0,
            "reward_std": float(known.std()) if len(known) else 0.0,
            "without_signal": float(self._silent(rewards).mean()),
            "unscored": float(1 - len(known) / rewards.size),
            "pass_at_k": float((np.where(np.isfinite(rewards), rewards, -np.inf).max(-1) >= 1).mean()),
            "length": float(batch.mask.sum(-1).double().mean()),
            "truncated": float(np.mean([rollout.finish_reason == "length" for rollout in rollouts])),
            "entropy": nats / max(count, 1),
            "distinct_2": _distinct_pairs(batch),
        }
        (gap,) = self.ranks.most([numbers.get("gap_max", 0.0)])
        means = self.ranks.total(list(numbers.values()))
        self.metrics = {name: value / self.world_size for name, value in zip(numbers, means, strict=True)}
        if self.completions.fixed:
            del self.metrics["entropy"], self.metrics["distinct_2"]  # of the rows, not of the policy
        else:
            self.metrics["gap_max"] = gap
            if isinstance(self.config.algorithm, PPOConfig):
                self.metrics["beta"] = self.beta
        self.brakes.watch(self.metrics)
        self.metrics |= self.completions.metrics

    # -----------------------------------------------------------------------------------------------------------------
    # Where the run stands

    def seek(self, step: int) -> None:
        """Give out step `step` next, or the first of its rollouts', as these are not kept."""
        self.step, self._buffer = step - step % self.config.algorithm.updates, None

    def state(self) -> dict[str, Any]:
        """Step, controllers, and each process's rollouts that are still to be learned from, as JSON. All processes call
        it."""
        kept = None if not self.step % self.config.algorithm.updates else self._buffer
        buffers = [None if kept is None else _as_lists(kept)]
        if self.world_size > 1 and kept is not None:
            buffers = [None] * self.world_size
            dist.all_gather_object(buffers, _as_lists(kept))
        numbers = {"step": self.step, "beta": self.beta, "metrics": self.metrics, "brakes": self.brakes.state()}
        return {**numbers, "buffers": buffers}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved; returns the next step. ValueError for rollouts of another number of
        processes."""
        self.step, self.beta, self.metrics = state["step"], state["beta"], dict(state["metrics"])
        self.brakes = Brakes(self.config.brakes, **state["brakes"])
        if (buffers := state["buffers"])[0] is None:
            self._buffer = None
        elif len(buffers) != self.world_size:
            raise ValueError(f"the rollouts were saved by {len(buffers)} processes: go on with as many")
        else:
            kept = buffers[self.rank]
            columns = {name: torch.tensor(values) for name, values in kept["columns"].items()}
            ids, mask, real = (torch.tensor(kept[name]) for name in ("ids", "mask", "real"))
            self._buffer = RolloutBatch(ids, mask, real, columns)
        return self.step


def _as_lists(batch: RolloutBatch) -> dict[str, Any]:
    columns = {name: values.tolist() for name, values in batch.columns.items()}
    return {"ids": batch.ids.tolist(), "mask": batch.mask.tolist(), "real": batch.real.tolist(), "columns": columns}


def _scored(batch: RolloutBatch, rewards: NDArray[np.float64]) -> RolloutBatch:
    """Nothing is learned from completions without a reward."""
    return replace(batch, mask=batch.mask & torch.from_numpy(np.isfinite(rewards)).flatten()[:, None])


def _pairs(groups: Sequence[Sequence[Rollout]], rewards: NDArray[np.float64], reference: Tensor) -> GroupBatch:
    """Best and worst of each group with a signal; without any, a batch of no group."""
    sums, pairs = reference.double().sum(-1).view(rewards.shape).tolist(), []
    for group, values, totals, silent in zip(groups, rewards, sums, without_signal(rewards), strict=True):
        if not silent:
            chosen = [int(np.nanargmax(values)), int(np.nanargmin(values))]
            ids, learned = [group[n].ids for n in chosen], [group[n].sampled for n in chosen]
            pairs.append(TokenGroup(ids, learned, {REFERENCE: [totals[n] for n in chosen]}))
    if pairs:
        return join_groups(pairs).batch(range(len(pairs)))
    none = torch.zeros(0, 2, 2, dtype=torch.bool)
    return GroupBatch(none.long(), none, none, {REFERENCE: torch.zeros(0, 2)})


def _distinct_pairs(batch: RolloutBatch) -> float:
    """Distinct pairs of neighbouring sampled tokens among all of them."""
    rows = [ids[own].tolist() for ids, own in zip(batch.ids, batch.mask, strict=True)]
    pairs = [pair for row in rows for pair in pairwise(row)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0
