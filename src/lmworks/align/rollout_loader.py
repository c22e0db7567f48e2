"""Batches of rollouts: what `train.loop` reads in reinforcement learning.

prompts → completions of the engine that has the policy's weights → rewards → advantages → `Sequences`

All that is drawn follows from the seed and from numbers of batch, prompt and sample, so that a run that was killed goes
on with the same rollouts, and several processes draw what one would; rollouts that updates still wait for are a part of
the loader's state.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike, NDArray

from lmworks.align.advantages import generalised_advantages, group_advantages, whiten, without_signal
from lmworks.align.completions import Draw, RatedCompletions, SampledCompletions, rollout_sequences
from lmworks.align.dpo import REFERENCE
from lmworks.align.early_stopping import EarlyStopping
from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import STEPS, GRPOConfig, OnlineConfig, OnlineDPOConfig, PPOConfig
from lmworks.align.policy import Policy
from lmworks.align.ppo import critic_of, next_beta, token_rewards
from lmworks.data.shuffle import Permutation
from lmworks.data.token_groups import GroupBatch
from lmworks.progress import Report, no_report
from lmworks.train.objectives.objective import select_rows
from lmworks.train.parallel.ranks import ALONE, Ranks

_DRAWS = 4  # times that prompts without a signal are replaced


@dataclass
class RolloutLoader:
    """Batches for `train.loop`, of `config.prompts` prompts each, `config.algorithm.updates` times.

    policy   set when the run is there
    metrics  of the last rollouts, for the log, over all processes: `reward` and its parts `reward/NAME`, with `/std`;
             `pass@1` and `pass@K` (a right completion among all K of a prompt; what is right, `Draw.right` says);
             `frac_reward_zero_std` (groups that nothing is learned from), `unscored`, `length`, `truncated`, `entropy`
             (of the sampled tokens, -ln p), `kl` (k1 to the reference, nats a token), `gap_max` (largest difference
             between the engine's ln p and the trainer's), `distinct_2` (Li et al. 2016). With dynamic sampling
             `drawn/reward`, `drawn/pass@1`, `drawn/pass@K` and `drawn/frac_reward_zero_std`, too: before prompts were
             replaced
    stall_share  of the time, which the rollouts took
    beta     of PPO, where it follows the divergence
    """

    config: OnlineConfig
    completions: SampledCompletions | RatedCompletions
    ranks: Ranks = ALONE
    policy: Policy | None = None
    progress: Report = no_report
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    beta: float = 0.0
    early_stopping: EarlyStopping = field(init=False)
    _places: list[int] = field(init=False)  # of a batch's prompts, this process's: from the first up to the second
    _buffer: Sequences | GroupBatch | None = None
    _clock: tuple[float, float] = (0.0, 0.0)  # when it began, and seconds of rollouts since

    def __post_init__(self) -> None:
        if isinstance(self.config.algorithm, GRPOConfig):
            self.config = replace(self.config, algorithm=self.config.algorithm.resolved)
        self.early_stopping = EarlyStopping(self.config.early_stopping)
        self.beta = getattr(self.config.algorithm, "beta", 0.0)
        self.rank, self.world_size = self.ranks.rows
        self._places = [self.config.prompts * rank // self.world_size for rank in (self.rank, self.rank + 1)]

    @property
    def steps(self) -> int:
        return self.config.steps or STEPS

    @property
    def stall_share(self) -> float:
        began, seconds = self._clock
        return seconds / (time.monotonic() - began) if seconds else 0.0

    def __next__(self) -> Sequences | GroupBatch:
        if self.step >= self.steps:
            raise StopIteration
        algorithm = self.config.algorithm
        batch, update = divmod(self.step, algorithm.updates)
        if not update:
            began, before = time.monotonic(), self._clock
            self._buffer = self._roll_out()
            self._clock = before[0] or began, before[1] + time.monotonic() - began
        self.step += 1
        assert self._buffer is not None
        mini_batches = algorithm.num_mini_batches
        if mini_batches == 1:
            return self._buffer
        epoch, number = divmod(update, mini_batches)  # equal parts of all processes' completions, redrawn in each epoch
        size = algorithm.group_size
        order = Permutation(self.config.prompts * size, f"{self.config.seed} {batch} {epoch} parts")
        rows = order(np.arange(number, order.size, mini_batches)) - self._places[0] * size
        return select_rows(self._buffer, torch.from_numpy(rows[(rows >= 0) & (rows < len(self._buffer))]))

    # -----------------------------------------------------------------------------------------------------------------
    # Rollouts

    def _roll_out(self) -> Sequences | GroupBatch:
        assert self.policy is not None
        first, draw = self._draw(self.policy.refresh(self.step))
        batch = self._with_log_probabilities(rollout_sequences([rollout for group in draw.groups for rollout in group]))
        self._measure(first, draw, batch)
        algorithm, columns, rewards = self.config.algorithm, batch.columns, draw.rewards
        if isinstance(algorithm, OnlineDPOConfig):
            return _pairs(batch, rewards)
        teaches = self._teaches(draw)
        if getattr(algorithm, "dynamic_sampling", False):  # prompts that remain without a signal are no targets
            teaches &= ~self._silent(draw)[:, None]
        mask = batch.mask & torch.from_numpy(teaches).flatten()[:, None]
        if isinstance(algorithm, PPOConfig):
            scores = torch.from_numpy(np.nan_to_num(rewards)).float().flatten()
            token_reward = token_rewards(scores, columns["old"], columns["reference"], mask, self.beta)
            gains = generalised_advantages(token_reward, columns["values"], mask, algorithm.gamma, algorithm.lam)
            self.beta = next_beta(self.beta, self.metrics.get("kl", 0.0), algorithm.kl_target)
            advantages = whiten(gains, mask, self.ranks) if algorithm.whiten else gains
            added = {"advantages": advantages, "returns": (gains + columns["values"]) * mask}
        else:
            if self.beta and algorithm.kl == "reward":
                change = ((columns["old"] - columns["reference"]) * batch.mask).sum(-1)
                rewards = rewards - self.beta * change.double().numpy().reshape(rewards.shape)
            known = rewards[np.isfinite(rewards)]
            total, count = self.ranks.total([float(known.sum()), len(known)])
            advantages = group_advantages(rewards, algorithm.advantage or "group", total / max(count, 1))
            if algorithm.advantage == "best":  # the others are no targets: the step is as long as that of fine-tuning
                mask = mask & torch.from_numpy(advantages > 0).flatten()[:, None]
            added = {"advantages": torch.from_numpy(advantages).float().flatten()[:, None] * mask}
        return replace(batch, mask=mask, columns={**columns, **added})

    def _draw(self, adapter: str) -> tuple[Draw, Draw]:
        """Completions of this process's share of the next prompts, and those that are learned from. ValueError where
        nothing is learned from the first of all, and from others of as many prompts."""
        config, policy = self.config, self.policy
        assert policy is not None
        places, batch = np.arange(*self._places), self.step // config.algorithm.updates
        draw = first = self.completions.draw(places.tolist(), batch, 0, policy, adapter)
        dynamic = isinstance(config.algorithm, GRPOConfig) and config.algorithm.dynamic_sampling
        for again in range(1, _DRAWS + 1):
            silent = self._silent(draw)
            nothing = not self.step and not self.ranks.any(bool((~silent).any()))
            if self.completions.fixed or not (nothing or (dynamic and self.ranks.any(bool(silent.any())))):
                return first, draw
            if nothing:
                others = f"others are sampled, {again} of {_DRAWS} times"
                self.progress(0, None, "batches", note=f"nothing to learn from in {config.prompts} prompts: {others}")
            if silent.any():
                others = self.completions.draw(places[silent].tolist(), batch, again, policy, adapter)
                draw = draw.with_others(silent, others)
        if not self.step and not self.ranks.any(bool((~self._silent(draw)).any())):
            whose = f"all completions of {(_DRAWS + 1) * config.prompts} prompts before the first step"
            if not self.ranks.any(bool((self._teaches(draw) | ~np.isfinite(draw.rewards)).any())):
                raise ValueError(
                    f"{whose} were cut off at {config.max_completion_length} tokens, and algorithm.mask_truncated "
                    "leaves those out: raise max_completion_length, or set algorithm.mask_truncated=false"
                )
            reward = np.nanmean(draw.rewards) if np.isfinite(draw.rewards).any() else "missing"
            given = "rating" if self.completions.fixed else f"reward ({', '.join(config.rewards) or 'environment'})"
            raise ValueError(
                f"the {given} is {reward} for {whose}: there is nothing to learn from. Set rewards.NAME=1 of another "
                "one (`lmworks eval metrics`), fine-tune on the task first, or raise temperature or group_size"
            )
        return first, draw

    def _teaches(self, draw: Draw) -> NDArray[np.bool_]:
        """(groups, size): whether a completion has a reward, and is not left out as truncated."""
        known, algorithm = np.isfinite(draw.rewards), self.config.algorithm
        if isinstance(algorithm, GRPOConfig) and algorithm.mask_truncated:
            return known & [[rollout.finish_reason != "length" for rollout in group] for group in draw.groups]
        return known

    def _silent(self, draw: Draw) -> NDArray[np.bool_]:
        """(groups,): whether nothing is learned from a group; where completions are compared with those of all
        prompts, from none or from each with any that teaches."""
        algorithm, rewards = self.config.algorithm, draw.rewards
        nothing = np.logical_not(self._teaches(draw).any(-1))
        if not isinstance(algorithm, PPOConfig) and getattr(algorithm, "advantage", "group") != "batch":
            return without_signal(rewards) | nothing
        known = rewards[np.isfinite(rewards)]
        highest, lowest = self.ranks.most([known.max(initial=-np.inf), -known.min(initial=np.inf)])
        return nothing | np.full(len(rewards), highest + lowest < 1e-12)

    def _with_log_probabilities(self, batch: Sequences) -> Sequences:
        """With the columns that the algorithm reads; what is only measured, of the first group alone."""
        algorithm, policy, temperature = self.config.algorithm, self.policy, self.config.temperature
        assert policy is not None
        critic = critic_of(policy.model) if isinstance(algorithm, PPOConfig) else None
        sampled, columns = batch.columns["sampled"], dict(batch.columns)
        if self.completions.fixed:
            columns |= {"old": sampled, "reference": sampled}
            if critic is not None:
                columns["values"] = policy.log_probabilities(policy.model, batch, temperature, critic)[1]
            return replace(batch, columns=columns)
        rewarded = bool(self.beta) and getattr(algorithm, "kl", "reward") == "reward"
        keeps_old = algorithm.updates > 1 or critic is not None or rewarded
        keeps_reference = bool(self.beta) or critic is not None or isinstance(algorithm, OnlineDPOConfig)
        first = select_rows(batch, slice(algorithm.group_size))
        old, values = policy.log_probabilities(policy.model, batch if keeps_old else first, temperature, critic)
        reference, _ = policy.log_probabilities(policy.reference, batch if keeps_reference else first, temperature)
        shared = min(len(old), len(reference))
        mask = batch.mask[:shared]
        # k1, which has no bias: of a few sequences, k3 is spoiled by one token that the policy finds unlikely.
        kl = ((old[:shared] - reference[:shared]) * mask).sum() / mask.sum().clamp(min=1)
        gap = ((old - sampled[: len(old)]).abs() * batch.mask[: len(old)]).max()
        self.metrics = {"kl": float(kl), "gap_max": float(gap)}
        columns |= {"old": old} if keeps_old else {}
        columns |= {"reference": reference} if keeps_reference else {}
        columns |= {"values": values} if critic is not None else {}
        return replace(batch, columns=columns)

    def _measure(self, first: Draw, draw: Draw, batch: Sequences) -> None:
        numbers = self._numbers(draw)
        numbers |= {
            "length": batch.mask.sum(-1).numpy(),
            "truncated": [rollout.finish_reason == "length" for group in draw.groups for rollout in group],
        }
        if getattr(self.config.algorithm, "dynamic_sampling", False):
            numbers |= {
                f"drawn/{name}": values for name, values in self._numbers(first).items() if "reward/" not in name
            }
        gap = {}
        if not self.completions.fixed:  # of the policy's own
            (largest,) = self.ranks.most([self.metrics["gap_max"]])
            gap = {"gap_max": largest} | ({"beta": self.beta} if isinstance(self.config.algorithm, PPOConfig) else {})
            sampled = -batch.columns["sampled"][batch.mask].double().numpy()
            rows = [ids[sampled_tokens].tolist() for ids, sampled_tokens in zip(batch.ids, batch.mask, strict=True)]
            pairs = [pair for row in rows for pair in pairwise(row)]
            distinct = len(set(pairs)) / len(pairs) if pairs else 0.0
            numbers |= {"kl": [self.metrics["kl"]], "entropy": sampled, "distinct_2": [distinct]}
        self.metrics = {**self._means(numbers), **gap}
        self.early_stopping.watch(self.metrics)

    def _numbers(self, draw: Draw) -> dict[str, ArrayLike]:
        """Values by name, NaN where there is none."""
        right = np.where(np.isfinite(draw.right), draw.right >= 1, np.nan)
        return {
            "reward": draw.rewards,
            "frac_reward_zero_std": self._silent(draw),
            "unscored": ~np.isfinite(draw.rewards),
            "pass@1": right,
            f"pass@{right.shape[1]}": np.fmax.reduce(right, -1),
            **{f"reward/{name}": values for name, values in draw.parts.items()},
        }

    def _means(self, numbers: Mapping[str, ArrayLike]) -> dict[str, float]:
        """Means over all processes, of rewards the standard deviations, too; nothing of which there is no value."""
        values = [np.asarray(column, np.float64) for column in numbers.values()]
        known = [column[np.isfinite(column)] for column in values]
        totals = iter(
            self.ranks.total([float(n) for column in known for n in (len(column), column.sum(), column @ column)])
        )
        means = {}
        for name, count, total, squares in zip(numbers, totals, totals, totals, strict=True):
            means |= {name: total / count} if count else {}
            if count and name.startswith("reward"):
                means[f"{name}/std"] = math.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        return means

    # -----------------------------------------------------------------------------------------------------------------
    # Where the run stands

    def state(self) -> dict[str, Any]:
        """Step, controllers, and each process's rollouts that are still to be learned from, as JSON. All processes call
        it."""
        buffer = self._buffer if self.step % self.config.algorithm.updates else None
        buffers: list[Any] = [None] * self.world_size
        if buffer is not None:
            tensors = {name: getattr(buffer, name).tolist() for name in ("ids", "mask", "lengths")}
            buffers[self.rank] = {
                **tensors,
                "columns": {name: values.tolist() for name, values in buffer.columns.items()},
            }
            if self.world_size > 1:
                dist.all_gather_object(buffers, buffers[self.rank])
        return {"step": self.step, "beta": self.beta, "metrics": self.metrics, "buffers": buffers}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved; returns the next step. ValueError for rollouts of another number of
        processes."""
        self.step, self.beta, self.metrics = state["step"], state["beta"], dict(state["metrics"])
        self._buffer = None
        if (buffers := state["buffers"])[0] is not None:
            if len(buffers) != self.world_size:
                raise ValueError(f"the rollouts were saved by {len(buffers)} processes: resume with as many")
            saved = buffers[self.rank]
            columns = {name: torch.tensor(values) for name, values in saved["columns"].items()}
            ids, mask, lengths = (torch.tensor(saved[name]) for name in ("ids", "mask", "lengths"))
            self._buffer = Sequences(ids, mask, lengths, columns)
        return self.step


def _pairs(batch: Sequences, rewards: NDArray[np.float64]) -> GroupBatch:
    """Best and worst of each group with a signal."""
    groups = np.flatnonzero(~without_signal(rewards))
    best, worst = (pick(rewards[groups], -1) for pick in (np.nanargmax, np.nanargmin))
    rows = torch.from_numpy(groups[:, None] * rewards.shape[1] + np.stack([best, worst], -1))  # (pairs, 2)
    real = torch.arange(batch.ids.shape[1]) < batch.lengths[rows][:, :, None]
    sums = batch.columns["reference"].double().sum(-1).float()
    return GroupBatch(batch.ids[rows], real, batch.mask[rows], {REFERENCE: sums[rows]})
