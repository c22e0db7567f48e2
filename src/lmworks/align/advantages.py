"""Advantages: how much better a completion was than expected, by the other completions of its prompt or by a critic.

rewards  (groups, size) float64; NaN where a completion has none, which then counts for nothing
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.align.online_config import Advantage
from lmworks.train.parallel.ranks import ALONE, Ranks

Rewards = NDArray[np.float64]
_EPSILON = 1e-4  # added to the standard deviation, as TRL does; others 1e-6 (verl), 1e-9 (OpenRLHF)
_WHITENED = 1e-8  # added to the variance


def group_advantages(rewards: Rewards, kind: Advantage, overall: float = 0.0) -> Rewards:
    """Advantages (groups, size), 0 where there is no reward; `overall` is the mean of all rewards, of other processes,
    too, which `batch` compares with.

    group          (R - mean) / (std + 1e-4), the standard deviation with n - 1 (Shao et al. 2024, section 4.1.2)
    mean           R - mean (Liu et al. 2025, "Understanding R1-Zero-like training", section 3.1)
    leave_one_out  R - the mean of the others (Ahmadian et al. 2024, RLOO)
    batch          R - the mean over all groups (Williams 1992, REINFORCE with a baseline)
    best           1 for the best of its group, 0 for all others: rejection sampling (Dong et al. 2023, RAFT), but that
                   groups of one reward, all right or all wrong, teach nothing
    """
    count = np.isfinite(rewards).sum(-1, keepdims=True)
    filled = np.where(np.isfinite(rewards), rewards, 0.0)
    mean = filled.sum(-1, keepdims=True) / np.maximum(count, 1)
    centred = np.where(np.isfinite(rewards), rewards - mean, 0.0)
    match kind:
        case "group":
            deviation = np.sqrt((centred**2).sum(-1, keepdims=True) / np.maximum(count - 1, 1))
            return centred / (deviation + _EPSILON)
        case "mean":
            return centred
        case "leave_one_out":
            return centred * count / np.maximum(count - 1, 1)
        case "batch":
            return np.where(np.isfinite(rewards), rewards - overall, 0.0)
        case "best":
            highest = np.where(np.isfinite(rewards), rewards, -np.inf).argmax(-1)[:, None]
            return (np.arange(rewards.shape[1]) == highest) * (1.0 - without_signal(rewards)[:, None])


def without_signal(rewards: Rewards) -> NDArray[np.bool_]:
    """(groups,): whether all completions of a prompt have one reward, or fewer than two have any."""
    known = np.isfinite(rewards)
    low = np.where(known, rewards, np.inf).min(-1)
    high = np.where(known, rewards, -np.inf).max(-1)
    return (known.sum(-1) < 2) | (high - low < 1e-12)


def generalised_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """GAE: A_t of each sampled token, (sequences, length), 0 elsewhere (Schulman et al. 2016, equation 16)."""
    advantages = torch.zeros_like(values)
    ahead, value_ahead = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(mask.shape[1])):
        sampled = mask[:, t]
        delta = rewards[:, t] + gamma * value_ahead - values[:, t]
        ahead = torch.where(sampled, delta + gamma * lam * ahead, ahead)
        value_ahead = torch.where(sampled, values[:, t], value_ahead)
        advantages[:, t] = ahead * sampled
    return advantages


def whiten(values: Tensor, mask: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Mean 0 and variance 1 (with n - 1) over all sampled tokens, of other processes too; 0 elsewhere."""
    chosen = values[mask].double()
    count, total = ranks.total([len(chosen), float(chosen.sum())])
    mean = total / max(count, 1)
    (squares,) = ranks.total([float((chosen - mean).square().sum())])
    return (values - mean) * (squares / max(count - 1, 1) + _WHITENED) ** -0.5 * mask
