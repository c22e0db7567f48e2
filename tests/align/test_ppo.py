"""PPO's losses against a reference in NumPy, and its runs."""

import numpy as np
import pytest
import torch

from align.rl_cases import config_of, run_of
from kit.tables import for_each
from lmworks.adapt.config import LoraConfig
from lmworks.align import grpo, ppo
from lmworks.align.advantages import generalised_advantages, whiten
from lmworks.align.grpo import PolicyOptimization
from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import PPOConfig
from lmworks.align.ppo import token_rewards
from lmworks.train.loop import train
from lmworks.train.run_log import read_log

LENGTHS, LONGEST = (1, 6, 5, 3), 6


def reference_ppo(policy, values, old, reference, old_values, mask, scores, c):
    """The loop over one sequence at a time, with its own indices: advantages, returns and the loss."""
    advantages, returns = np.zeros_like(policy), np.zeros_like(policy)
    for row in range(len(policy)):
        places = np.flatnonzero(mask[row])
        rewards = [-c.beta * (old[row, t] - reference[row, t]) for t in places]
        rewards[-1] += scores[row]
        own = [old_values[row, t] for t in places] + [0.0]
        ahead = 0.0
        for n in reversed(range(len(places))):
            ahead = rewards[n] + c.gamma * own[n + 1] - own[n] + c.gamma * c.lam * ahead
            advantages[row, places[n]] = ahead
            returns[row, places[n]] = ahead + own[n]
    chosen = advantages[mask]
    normal = (advantages - chosen.mean()) / np.sqrt(chosen.var(ddof=1) + 1e-8)
    ratio = np.exp(policy - old)
    surrogate = np.maximum(-normal * ratio, -normal * np.clip(ratio, 1 - c.clip, 1 + c.clip))
    near = np.clip(values, old_values - c.value_clip, old_values + c.value_clip)
    errors = np.maximum((values - returns) ** 2, (near - returns) ** 2) / 2
    return normal * mask, returns, surrogate[mask].mean(), errors[mask].mean()


@for_each("beta", [0.0, 0.3])
def test_advantages_and_losses_are_those_of_the_reference(beta, monkeypatch):
    generator = np.random.default_rng(0)
    shape = (len(LENGTHS), LONGEST)
    mask = np.arange(LONGEST) < np.array(LENGTHS)[:, None]
    mask[1, 2] = False  # what an environment said
    policy, values, old_values = -generator.random(shape), generator.normal(size=shape), generator.normal(size=shape)
    old, reference = policy + generator.normal(size=shape) * 0.4, policy + generator.normal(size=shape) * 0.4
    scores, config = generator.normal(size=len(LENGTHS)), PPOConfig(beta=beta, gamma=0.9, lam=0.8)
    normal, returns, surrogate, errors = reference_ppo(policy, values, old, reference, old_values, mask, scores, config)
    own = {
        name: torch.from_numpy(value) for name, value in (("m", mask), ("o", old), ("r", reference), ("v", old_values))
    }
    rewards = token_rewards(torch.from_numpy(scores), own["o"], own["r"], own["m"], beta)
    found = generalised_advantages(rewards, own["v"], own["m"], config.gamma, config.lam)
    np.testing.assert_allclose(whiten(found, own["m"]), normal, atol=1e-10)
    np.testing.assert_allclose((found + own["v"]) * own["m"], returns, atol=1e-10)

    def wide(array):  # behind a prompt of one token
        return torch.cat([torch.zeros(len(LENGTHS), 1, dtype=torch.float64), torch.from_numpy(array).double()], 1)

    monkeypatch.setattr(grpo, "log_probabilities_and_values", lambda *_: (wide(policy), wide(values)))
    monkeypatch.setattr(grpo, "critic_of", lambda _: None)
    names = {"old": old, "reference": reference, "values": old_values, "advantages": normal, "returns": returns}
    columns = {name: wide(array) for name, array in names.items()} | {"sampled": wide(old)}
    moved = wide(mask).bool()
    batch = Sequences(moved.long(), moved, moved.sum(-1) + 1, columns)
    losses = PolicyOptimization(config, LONGEST).losses(None, batch)  # type: ignore[arg-type]
    assert float(losses["policy"].sum) / losses["policy"].count == pytest.approx(surrogate)
    assert float(losses["value"].metrics["nats"]) / losses["value"].count == pytest.approx(errors)
    assert float(losses["value"].sum) == pytest.approx(config.value_weight * float(losses["value"].metrics["nats"]))


def test_the_controller_moves_beta_to_its_target():
    assert ppo.next_beta(0.1, 0.5, None) == 0.1
    assert ppo.next_beta(0.1, 0.5, 0.1) == pytest.approx(0.102)
    assert ppo.next_beta(0.1, 0.09, 0.1) == pytest.approx(0.1 * (1 - 0.01))


@for_each("method", [None, LoraConfig(r=4, lora_alpha=8)])
def test_a_critic_is_trained_and_not_delivered(method, tmp_path):
    run = run_of(tmp_path, config_of(PPOConfig(group_size=2, num_iterations=2), method))
    train(run)
    first, *_, last = [line for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "step"]
    assert first["policy_clip_ratio"] == 0 and first["policy_ratio_shift"] < 1e-5  # ρ = 1
    assert abs(first["kl"]) < 1e-6 and last["policy_ratio_shift"] > 1e-4
    assert ppo.critic_of(run.model).weight.abs().max() > 0
    assert not any(name.startswith("critic") for name in run.trained())
