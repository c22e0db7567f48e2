"""Batches that the policy samples itself: what `train.loop` reads in online reinforcement learning.

prompts → completions from the engine that has the policy's weights → rewards → advantages → `RolloutBatch`

All that is drawn follows from the seed, the number of the prompt and of the sample, so that a run that was killed goes
on with the same rollouts; those that no update has used yet are a part of the loader's state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.adapt.lora_layers import lora_of
from lmworks.align.advantages import group_advantages, without_signal
from lmworks.align.config import OnlineConfig
from lmworks.align.log_probabilities import Sequences, completion_log_probabilities
from lmworks.align.policy_gradient import RolloutBatch, kl_estimate
from lmworks.data.order import Permutation
from lmworks.evaluate.metric import Item, Response, Value
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.rollouts import Rollout, roll_out
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import has_adapter
from lmworks.model.transformer import Transformer
from lmworks.records import Unscored

Reward = Callable[[Sequence[Item], Sequence[Response]], Sequence[Value]]  # `Metric.measure`, of one number each
_DRAWS = 4  # times that prompts without a signal are replaced


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's ids, and the item that rewards look at."""

    ids: tuple[int, ...]
    item: Item


@dataclass
class Policy:
    """The model in training and the engine that samples from it, with one set of weights.

    model      with its adapter, where it has one: then the engine has the base, and the adapter by a new name for each
               version. Else they share their tensors.
    reference  what the KL divergence is measured to
    """

    model: Transformer
    reference: Transformer
    engine: Engine
    device: torch.device | str = "cpu"
    version: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: Transformer, reference: Transformer, **options: Any) -> "Policy":
        """`options` are the engine's."""
        served = checkpoint if has_adapter(model) else checkpoint.with_model(model)
        return cls(model, reference, Engine(served, **options), model.tokens.device)

    def refresh(self, version: int) -> str:
        """Sample from the weights as they are now; returns the engine's adapter."""
        if not has_adapter(self.model):
            self.engine.weights_changed(version)
            return ""
        for name in self.engine.adapters:
            self.engine.unload_adapter(name)
        self.engine.load_adapter(name := f"policy {version}", lora_of(self.model))
        return name

    @torch.no_grad()
    def log_probabilities(self, model: Transformer, sequences: Sequences, temperature: float) -> Tensor:
        """As the trainer computes them, without dropout."""
        training = model.training
        model.eval()
        moved = Sequences(*(part.to(self.device) for part in sequences))
        found = completion_log_probabilities(model, moved, temperature).float().cpu()
        model.train(training)
        return found


@dataclass
class RolloutLoader:
    """Batches for `train.loop`, of `config.prompts` prompts each, `config.algorithm.updates` times.

    policy   set when the run is there: `Policy.of(run.checkpoint, run.model, ...)`
    metrics  of the last rollouts, for the log: `reward`, `reward_std`, `without_signal` (groups of one reward),
             `unscored`, `length`, `truncated`, `entropy` (of the sampled tokens, -ln p), `kl` (k3 to the reference),
             `gap_max` (largest difference between the engine's ln p and the trainer's), `pass_at_k`, `distinct_2`
    """

    config: OnlineConfig
    prompts: Sequence[Prompt]
    reward: Reward
    rank: int = 0
    world_size: int = 1
    policy: Policy | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    drawn: int = 0  # prompts
    stall_share: float = 0.0
    _buffer: RolloutBatch | None = None

    @property
    def steps(self) -> int:
        return self.config.steps

    def __next__(self) -> RolloutBatch:
        if self.step >= self.steps:
            raise StopIteration
        updates = self.config.algorithm.updates
        if self.step % updates == 0:
            self._buffer = self._roll_out()
        assert self._buffer is not None
        self.step += 1
        return self._buffer if updates == 1 else self._part((self.step - 1) % updates)

    def _part(self, number: int) -> RolloutBatch:
        """One of `updates` equal parts of the buffer, drawn anew each time."""
        buffer = self._buffer
        assert buffer is not None
        order = Permutation(len(buffer), f"{self.config.seed} {self.step // self.config.algorithm.updates} parts")
        chosen = torch.from_numpy(order(np.arange(number, len(buffer), self.config.algorithm.updates)))
        columns = {name: values[chosen] for name, values in buffer.columns.items()}
        return RolloutBatch(buffer.ids[chosen], buffer.mask[chosen], buffer.real[chosen], columns)

    # -----------------------------------------------------------------------------------------------------------------
    # Rollouts

    def _roll_out(self) -> RolloutBatch:
        config, policy = self.config, self.policy
        assert policy is not None
        adapter = policy.refresh(self.step)
        wanted = range(
            config.prompts * self.rank // self.world_size, config.prompts * (self.rank + 1) // self.world_size
        )
        groups, rewards = self._draw(len(wanted), adapter)
        for _ in range(_DRAWS if config.algorithm.dynamic_sampling else 0):
            silent = without_signal(rewards)
            if not silent.any():
                break
            further, found = self._draw(int(silent.sum()), adapter)
            for place, group, values in zip(np.flatnonzero(silent), further, found, strict=True):
                groups[place], rewards[place] = group, values
        rollouts = [rollout for group in groups for rollout in group]
        batch = self._batch(rollouts)
        batch = self._with_log_probabilities(batch, config.algorithm.group_size)
        batch = self._with_advantages(batch, rewards, rollouts)
        self._measure(rollouts, rewards, batch)
        return batch

    def _draw(self, count: int, adapter: str) -> tuple[list[list[Rollout]], np.ndarray]:
        """The next prompts' completions, and their rewards (count, group_size), NaN where there is none."""
        config, policy = self.config, self.policy
        assert policy is not None
        size = config.algorithm.group_size
        numbers = self.drawn + np.arange(count) * self.world_size + self.rank
        self.drawn += count * self.world_size
        epochs, places = np.divmod(numbers, len(self.prompts))
        prompts = [
            self.prompts[int(Permutation(len(self.prompts), f"{config.seed} {epoch} prompts")(np.array([place]))[0])]
            for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)
        ]
        sampling = SamplingParameters(config.completion, config.temperature)
        key = f"{config.seed} {self.step} {int(numbers[0])}"
        groups = roll_out(policy.engine, [each.ids for each in prompts], size, sampling, key, adapter)
        items = [prompt.item for prompt in prompts for _ in range(size)]
        values = self.reward(items, [Response(rollout.text) for group in groups for rollout in group])
        rewards = [math.nan if isinstance(value, Unscored) else float(value) for value in values]  # type: ignore[arg-type]
        return groups, np.array(rewards).reshape(count, size)

    def _batch(self, rollouts: Sequence[Rollout]) -> RolloutBatch:
        real = torch.tensor([len(rollout.ids) for rollout in rollouts])
        ids = torch.zeros(len(rollouts), int(real.max()), dtype=torch.int64)
        mask, sampled = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
        for row, rollout in enumerate(rollouts):
            ids[row, : len(rollout.ids)] = torch.tensor(rollout.ids)
            mask[row, : len(rollout.ids)] = torch.tensor(rollout.sampled)
            sampled[row, : len(rollout.ids)] = torch.tensor(rollout.log_probabilities)
        return RolloutBatch(ids, mask, real, {"sampled": sampled})

    def _with_log_probabilities(self, batch: RolloutBatch, group: int) -> RolloutBatch:
        """With the columns that the algorithm reads; what is only measured, of the first group alone."""
        algorithm, policy = self.config.algorithm, self.policy
        assert policy is not None
        everything = Sequences(batch.ids, batch.mask, batch.real)
        first = Sequences(*(part[:group] for part in everything))
        old = policy.log_probabilities(
            policy.model, everything if algorithm.updates > 1 else first, self.config.temperature
        )
        reference = policy.log_probabilities(
            policy.reference, everything if algorithm.beta else first, self.config.temperature
        )
        shared = min(len(old), len(reference))
        mask, tokens = batch.mask[:shared], batch.mask[:shared].sum().clamp(min=1)
        kl = kl_estimate(old[:shared], reference[:shared], "k3") * mask
        gap = (old - batch.columns["sampled"][: len(old)]).abs() * batch.mask[: len(old)]
        self.metrics = {"kl": float(kl.sum() / tokens), "gap_max": float(gap.max())}
        columns = dict(batch.columns)
        if algorithm.updates > 1:
            columns["old"] = old
        if algorithm.beta:
            columns["reference"] = reference
        return replace(batch, columns=columns)

    def _with_advantages(self, batch: RolloutBatch, rewards: np.ndarray, rollouts: Sequence[Rollout]) -> RolloutBatch:
        algorithm = self.config.algorithm
        assert algorithm.advantage is not None
        advantages = torch.from_numpy(group_advantages(rewards, algorithm.advantage)).float().flatten()
        mask = batch.mask & torch.from_numpy(np.isfinite(rewards)).flatten()[:, None]
        if algorithm.mask_truncated:
            mask &= torch.tensor([rollout.finish_reason != "length" for rollout in rollouts])[:, None]
        return replace(batch, mask=mask, columns={**batch.columns, "advantages": advantages[:, None] * mask})

    def _measure(self, rollouts: Sequence[Rollout], rewards: np.ndarray, batch: RolloutBatch) -> None:
        known = rewards[np.isfinite(rewards)]
        sampled = [value for r in rollouts for value, own in zip(r.log_probabilities, r.sampled, strict=True) if own]
        self.metrics |= {
            "reward": float(known.mean()) if len(known) else 0.0,
            "reward_std": float(known.std()) if len(known) else 0.0,
            "without_signal": float(without_signal(rewards).mean()),
            "unscored": float(1 - len(known) / rewards.size),
            "pass_at_k": float((np.where(np.isfinite(rewards), rewards, -np.inf).max(-1) >= 1).mean()),
            "length": float(np.mean([sum(rollout.sampled) for rollout in rollouts])),
            "truncated": float(np.mean([rollout.finish_reason == "length" for rollout in rollouts])),
            "entropy": -float(np.mean(sampled)) if sampled else 0.0,
            "distinct_2": _distinct_pairs(rollouts),
        }

    # -----------------------------------------------------------------------------------------------------------------
    # Where the run stands

    def seek(self, step: int) -> None:
        """Give out step `step` next; rollouts begin anew there."""
        self.step, self._buffer = step, None

    def state(self) -> dict[str, Any]:
        """Step, prompts drawn, and rollouts that are still to be learned from, as JSON."""
        buffer, within = self._buffer, self.step % self.config.algorithm.updates
        kept = None
        if buffer is not None and within:
            kept = {
                "ids": buffer.ids.tolist(),
                "mask": buffer.mask.tolist(),
                "real": buffer.real.tolist(),
                "columns": {name: values.tolist() for name, values in buffer.columns.items()},
            }
        return {"step": self.step, "drawn": self.drawn, "buffer": kept, "metrics": self.metrics}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved; returns the next step."""
        self.step, self.drawn, self.metrics, kept = (state[name] for name in ("step", "drawn", "metrics", "buffer"))
        if kept is not None:
            self._buffer = RolloutBatch(
                torch.tensor(kept["ids"]),
                torch.tensor(kept["mask"]),
                torch.tensor(kept["real"]),
                {name: torch.tensor(values) for name, values in kept["columns"].items()},
            )
        return self.step


def _distinct_pairs(rollouts: Sequence[Rollout]) -> float:
    """Distinct pairs of neighbouring sampled tokens among all of them (Li et al. 2016, distinct-2)."""
    ids = [[i for i, own in zip(rollout.ids, rollout.sampled, strict=True) if own] for rollout in rollouts]
    pairs = [pair for row in ids for pair in pairwise(row)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0
