"""Policy gradients on sampled completions: GRPO and its relatives, and PPO's policy, as one loss with named choices.

ρ = π / π_old, of a token or of a sequence (the geometric mean of its tokens' ratios, Zheng et al. 2025)
-min(ρ A, clip(ρ, 1 - ε_low, 1 + ε_high) A) + β KL(π ‖ π_ref)        Shao et al. 2024, equation 3, with its KL penalty
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lmworks.align.log_probabilities import Sequences, log_probabilities_and_values
from lmworks.align.online_config import GRPOConfig, PPOConfig
from lmworks.align.ppo import critic_of, value_loss
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective


def kl_estimate(log_probabilities: Tensor, reference: Tensor, estimator: str = "k3") -> Tensor:
    """KL(π ‖ π_ref) of tokens sampled from π, by ln π and ln π_ref of each (Schulman 2020, "Approximating KL
    divergence"): k2 = d²/2, k3 = exp(-d) - 1 + d, with d their difference."""
    d = log_probabilities - reference
    return d.square() / 2 if estimator == "k2" else torch.expm1(-d) + d


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
        case "clipped_is_weight":
            ratio = change.exp().detach()
            return -ratio.clamp(max=high) * advantages * log_probabilities * mask, (ratio > high) & mask
        case "sequence":
            change = (change.sum(-1) / mask.sum(-1).clamp(min=1))[:, None].expand_as(change)
    ratio = change.exp()
    plain, held = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(plain, held) * mask, (held < plain) & mask


def reduce_tokens(values: Tensor, mask: Tensor, reduction: str, most: int) -> Tensor:
    """A sum, () : over all tokens; over sequences of their means; over sequences of their sums divided by `most`."""
    if reduction == "token":
        return (values * mask).sum()
    return ((values * mask).sum(-1) / (most if reduction == "constant" else mask.sum(-1).clamp(min=1))).sum()


@dataclass(frozen=True, slots=True)
class PolicyOptimization(Objective[Sequences]):
    """The policy's loss on rollouts, and of PPO the critic's; targets are tokens where it is their mean, else sequences
    that have any token to learn (TRL counts empty ones, too).

    Metrics, means over the targets' tokens: `clip_ratio`, and `ratio` - 1 as `ratio_shift`. With one update for each
    rollout π_old is π: the loss is near 0 and says nothing of the progress, its gradient does.
    """

    unit: ClassVar[str] = ""
    config: GRPOConfig | PPOConfig
    max_completion_length: int  # most tokens of one
    temperature: float = 1.0

    def counts(self, examples: Sequences) -> Mapping[str, int]:
        mask = examples.mask[:, 1:]
        count = int(mask.sum() if self.config.resolved.reduction == "token" else mask.any(-1).sum())
        return {"policy": count, "value": count} if isinstance(self.config, PPOConfig) else {"policy": count}

    def loss_weights(self) -> Mapping[str, float]:
        return {"value": self.config.value_weight} if isinstance(self.config, PPOConfig) else {}

    def losses(self, model: Transformer, examples: Sequences) -> Mapping[str, Loss]:
        config, count = self.config.resolved, self.counts(examples)["policy"]
        critic = critic_of(model) if isinstance(self.config, PPOConfig) else None
        policy, values = log_probabilities_and_values(model, examples, self.temperature, critic)
        columns = {name: column.to(policy) for name, column in examples.columns.items()}  # (sequences, length)
        mask, old = examples.mask.clone(), columns.get("old", policy.detach())
        mask[:, 0] = False  # what nothing stands before was not predicted
        loss, clipped = policy_loss(policy, old, columns["advantages"], mask, config)
        if config.importance_cap is not None:  # what the sampler computes otherwise than the trainer
            loss = loss * (old - columns["sampled"]).detach().exp().clamp(max=config.importance_cap)
        if config.beta and config.kl != "reward":
            loss = loss + config.beta * kl_estimate(policy, columns["reference"], config.kl) * mask
        reduction = config.reduction or "sequence"
        with torch.no_grad():
            metrics = {"clip_ratio": clipped.to(policy), "ratio_shift": (((policy - old) * mask).exp() - 1).abs()}
            mean = "token" if reduction == "token" else "sequence"
            metrics = {name: reduce_tokens(each, mask, mean, 1) for name, each in metrics.items()}
        losses = {"policy": Loss(reduce_tokens(loss, mask, reduction, self.max_completion_length), count, metrics)}
        if isinstance(self.config, PPOConfig):
            value = value_loss(values, columns["values"], columns["returns"], mask, self.config.value_clip).sum()
            losses["value"] = Loss(self.config.value_weight * value, count, {"nats": value.detach()})
        return losses
