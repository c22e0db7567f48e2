"""The critic of proximal policy optimisation (Schulman et al. 2017), for language models (Ziegler et al. 2019).

r_t = -β (ln π_old - ln π_ref)_t + 1[t is the last] R        δ_t = r_t + γ V_(t+1) - V_t        A_t = δ_t + γλ A_(t+1)
policy  max(-A ρ, -A clip(ρ, 1 - ε, 1 + ε))                  ρ = π / π_old; see `grpo.py`
value   ½ max((V - V̂)², (clip(V, V_old - ε_v, V_old + ε_v) - V̂)²)                            V̂ = A + V_old

The first is the reward with its KL penalty; A_t is generalised advantage estimation (GAE), see `advantages.py`.
t counts the tokens that the policy chose: what an environment says in between is passed over. V_t is the critic's value
of the hidden state that token t is predicted from.
"""

import torch
from torch import Tensor, nn

from lmworks.model.transformer import Transformer

_ERROR, _GAIN = 0.2, 0.1  # bounds of the controller's error, and how far β follows it at a time


def add_critic(model: Transformer) -> Transformer:
    """The model, in place, with a value head of zeros as its module `critic`."""
    critic = nn.Linear(model.config.embedding.width, 1).to(model.tokens.device)
    nn.init.zeros_(critic.weight)
    nn.init.zeros_(critic.bias)
    model.add_module("critic", critic)
    return model


def critic_of(model: Transformer) -> nn.Module:
    return model.get_submodule("critic")


def token_rewards(scores: Tensor, log_probabilities: Tensor, reference: Tensor, mask: Tensor, beta: float) -> Tensor:
    """r_t, (sequences, length): k1 of each sampled token, and at the last of them the completion's score,
    (sequences,)."""
    columns = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * (columns + 1)).argmax(-1)  # (sequences,)
    rewards = -beta * (log_probabilities - reference) * mask
    return rewards + scores[:, None] * mask * (columns == last[:, None])


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float | None) -> Tensor:
    """The loss of each token, (sequences, length), 0 outside of `mask`."""
    error = (values - returns).square()
    if clip is not None:
        error = torch.maximum(error, (values.clamp(old - clip, old + clip) - returns).square())
    return error / 2 * mask


def next_beta(beta: float, kl: float, target: float | None) -> float:
    """β after rollouts whose divergence was `kl` nats a token (Ziegler et al. 2019, section 2.2)."""
    if target is None:
        return beta
    return beta * (1 + _GAIN * min(max(kl / target - 1, -_ERROR), _ERROR))
