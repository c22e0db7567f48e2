"""Policy gradients on sampled completions: GRPO and its relatives, as one loss with named choices.

ρ = π / π_old, of a token or of a sequence (the geometric mean of its tokens' ratios, Zheng et al. 2025)
-min(ρ A, clip(ρ, 1 - ε_low, 1 + ε_high) A) + β KL(π ‖ π_ref)        Shao et al. 2024, equation 3
"""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from lmworks.align.log_probabilities import Sequences, completion_log_probabilities
from lmworks.align.online_config import GRPOConfig
from lmworks.generate.rollouts import Rollout
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, select_rows


@dataclass(frozen=True, slots=True, eq=False)
class RolloutBatch:
    """Sampled sequences, padded behind; a micro-batch is some of them.

    ids         (sequences, length) int64
    mask        (sequences, length) bool: tokens that the policy chose
    real        (sequences,) int64: tokens without padding
    columns     name → (sequences, length) float32, 0 outside of `mask`: `advantages`; `sampled`, ln p of the
                distribution sampled from; where they were computed, `old`, of the policy as a trainer computes it, and
                `reference`
    """

    ids: Tensor
    mask: Tensor
    real: Tensor
    columns: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, sequences: Sequences, rollouts: SequenceOf[Rollout]) -> "RolloutBatch":
        """With the column `sampled`."""
        sampled = torch.zeros(sequences.ids.shape)
        for row, rollout in enumerate(rollouts):
            sampled[row, : len(rollout.ids)] = torch.tensor(rollout.log_probabilities)
        return cls(*sequences, {"sampled": sampled})

    def select(self, rows: Tensor) -> "RolloutBatch":
        """Some of its sequences, by their numbers."""
        return select_rows(self, rows)

    @property
    def tokens(self) -> int:
        """Places that are no padding."""
        return int(self.real.sum())


def kl_estimate(log_probabilities: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """KL(π ‖ π_ref) of tokens sampled from π, by ln π and ln π_ref of each (Schulman 2020, "Approximating KL
    divergence"): k1 = d, k2 = d²/2, k3 = exp(-d) - 1 + d, with d their difference."""
    d = log_probabilities - reference
    match estimator:
        case "k1":
            return d
        case "k2":
            return d.square() / 2
        case _:
            return torch.expm1(-d) + d


def policy_loss(
    log_probabilities: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, config: GRPOConfig
) -> tuple[Tensor, Tensor]:
    """The loss of each token and whether its ratio was clipped, (sequences, length) each, 0 outside of `mask`.

    log_probabilities  ln π, differentiable; `old` ln π_old; both (sequences, length), as are `advantages`
    """
    change, config = (log_probabilities - old) * mask, config.resolved
    low, high = config.clip_low or 0.0, config.clip_high or 0.0
    match config.ratio:
        case "none":
            return -advantages * log_probabilities * mask, torch.zeros_like(mask)
        case "truncated":
            ratio = change.exp().detach()
            return -ratio.clamp(max=high) * advantages * log_probabilities * mask, (ratio > high) & mask
        case "sequence":
            change = (change.sum(-1) / mask.sum(-1).clamp(min=1))[:, None].expand_as(change)
    ratio = change.exp()
    plain, held = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(plain, held) * mask, (held < plain) & mask


def importance(old: Tensor, sampled: Tensor, cap: float | None) -> Tensor:
    """min(π_old / π_sampler, cap) of each token, which its loss weighs where the sampler computes π_old otherwise than
    the trainer; without a gradient, and 1 without a cap (Yao et al. 2025, "Your efficient RL framework secretly brings
    you off-policy RL training")."""
    return torch.ones_like(old) if cap is None else (old - sampled).detach().exp().clamp(max=cap)


def reduce_tokens(values: Tensor, mask: Tensor, reduction: str, most: int) -> Tensor:
    """A sum, () : over all tokens; over sequences of their means; over sequences of their sums divided by `most`."""
    if reduction == "token":
        return (values * mask).sum()
    return ((values * mask).sum(-1) / (most if reduction == "constant" else mask.sum(-1).clamp(min=1))).sum()


@dataclass(frozen=True, slots=True)
class PolicyOptimization(Objective[RolloutBatch]):
    """The policy's loss on rollouts; targets are tokens where it is their mean, else sequences that have any token to
    learn (TRL counts empty ones, too).

    Metrics, means over the targets' tokens: `kl` (k3, where the reference is known), `clipped`, and `ratio` - 1 as
    `ratio_shift`. With one update for each rollout π_old is π: the loss is near 0 and says nothing of the progress,
    its gradient does.
    """

    config: GRPOConfig
    completion: int  # most tokens of one
    temperature: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.config.resolved)

    def counts(self, examples: RolloutBatch) -> Mapping[str, int]:
        mask = examples.mask[:, 1:]
        return {"policy": int(mask.sum() if self.config.reduction == "token" else mask.any(-1).sum())}

    def losses(self, model: Transformer, examples: RolloutBatch) -> Mapping[str, Loss]:
        config, columns = self.config, examples.columns
        sequences = Sequences(examples.ids, examples.mask, examples.real)
        policy = completion_log_probabilities(model, sequences, self.temperature)  # (sequences, length)
        mask = examples.mask.clone()
        mask[:, 0] = False  # what nothing stands before was not predicted
        old = columns["old"].to(policy) if "old" in columns else policy.detach()
        loss, clipped = policy_loss(policy, old, columns["advantages"].to(policy), mask, config)
        loss = loss * importance(old, columns["sampled"].to(policy), config.importance_cap)
        reduction = config.reduction or "sequence"
        if config.beta and config.kl != "reward":
            loss = loss + config.beta * kl_estimate(policy, columns["reference"].to(policy), config.kl) * mask
        total = reduce_tokens(loss, mask, reduction, self.completion)
        mean = "token" if reduction == "token" else "sequence"
        with torch.no_grad():
            shift = ((policy - old) * mask).exp() - 1
            metrics = {
                "clipped": reduce_tokens(clipped.to(policy), mask, mean, 1),
                "ratio_shift": reduce_tokens(shift.abs(), mask, mean, 1),
            }
            if "reference" in columns:
                kl = kl_estimate(policy, columns["reference"].to(policy), "k3")
                metrics["kl"] = reduce_tokens(kl, mask, mean, 1)
        return {"policy": Loss(total, self.counts(examples)["policy"], metrics)}
