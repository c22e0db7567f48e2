"""Policy gradients against TRL in float64, and against their formulas in NumPy where TRL has none.

python tests/align/test_grpo.py     # records what TRL computes, where it is installed
"""

import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.align import grpo
from lmworks.align.advantages import group_advantages
from lmworks.align.grpo import PolicyOptimization, kl_estimate, policy_loss
from lmworks.align.log_probabilities import Sequences
from lmworks.align.online_config import GRPOConfig

RECORDED = Path(__file__).with_name("trl_grpo.json")
LENGTHS, MOST, PROMPT = (5, 3, 1, 0, 4), 6, 2  # one completion has nothing to learn
CASES = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
}
GRID = [(name, updates, beta, cap) for name in CASES for updates, beta, cap in ((1, 0.0, 0), (2, 0.1, 0), (2, 0.0, 2))]


def inputs() -> dict[str, torch.Tensor]:
    """(sequences, tokens) float64; the ratios lie on both sides of every clip."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))
    policy = -torch.rand(shape, generator=generator, dtype=torch.float64) * 3
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) * scale for scale in (0.3, 0.4, 0.5)]
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    advantages = torch.tensor([1.2, -0.7, 0.4, 0.9, -1.5], dtype=torch.float64)
    return {"policy": policy, "old": policy + noise[0], "reference": policy + noise[1],
            "sampled": policy + noise[0] + noise[2], "mask": mask, "advantages": advantages}  # fmt: skip


def ours(name: str, updates: int, beta: float, cap: float, monkeypatch: Any) -> tuple[float, list[list[float]]]:
    """Loss, divided as TRL divides it, and its gradient by ln p."""
    given = inputs()
    leaf = given["policy"].clone().requires_grad_()
    front = torch.zeros(len(leaf), PROMPT, dtype=torch.float64)
    policy = torch.cat([front, leaf], 1)
    monkeypatch.setattr(grpo, "log_probabilities_and_values", lambda *_: (policy, policy))
    wide = {key: torch.cat([front, given[key]], 1) for key in ("old", "reference", "sampled")}
    mask = torch.cat([front.bool(), given["mask"]], 1)
    columns = {**wide, "advantages": given["advantages"][:, None] * mask}
    if updates == 1:
        del columns["old"]
    config = GRPOConfig(name, num_iterations=updates, beta=beta, importance_cap=cap or None)  # type: ignore[arg-type]
    objective = PolicyOptimization(config, MOST)
    batch = Sequences(mask.long(), mask, mask.sum(-1) + PROMPT, columns)
    loss = objective.losses(None, batch)["policy"]  # type: ignore[arg-type]
    assert loss.count == (sum(LENGTHS) if config.resolved.reduction == "token" else 4)
    total = loss.sum / (loss.count if config.resolved.reduction == "token" else len(LENGTHS))
    total.backward()
    assert leaf.grad is not None
    return float(total.detach()), leaf.grad.tolist()


def of_trl(name: str, updates: int, beta: float, cap: float) -> tuple[float, list[list[float]]]:
    from trl.trainer.grpo_trainer import GRPOTrainer

    given, case = inputs(), CASES[name]
    leaf = given["policy"].clone().requires_grad_()
    low = case.get("epsilon", 0.2)
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (leaf, torch.zeros_like(leaf), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=beta,
        importance_sampling_level=case.get("importance_sampling_level", "token"), loss_type=case["loss_type"],
        epsilon_low=low, epsilon_high=case.get("epsilon_high", low), use_vllm=bool(cap),
        vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1, max_completion_length=MOST,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True), _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
    )  # fmt: skip
    ids = torch.ones(len(LENGTHS), PROMPT, dtype=torch.int64)
    batch = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": given["mask"].long(),
             "completion_mask": given["mask"].long(), "advantages": given["advantages"],
             "num_items_in_batch": torch.tensor(sum(LENGTHS)), "ref_per_token_logps": given["reference"]}  # fmt: skip
    old = given["old"] if updates > 1 else leaf.detach()
    if updates > 1:
        batch["old_per_token_logps"] = old
    if cap:
        batch["importance_sampling_ratio"] = (old - given["sampled"]).exp().clamp(max=cap)
    loss = GRPOTrainer._compute_loss(stub, None, batch)
    loss.backward()
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad.tolist()


@for_each(("name", "updates", "beta", "cap"), GRID)
def test_losses_and_gradients_are_those_of_trl(name, updates, beta, cap, monkeypatch):
    recorded = json.loads(RECORDED.read_text("utf-8"))["results"][f"{name} {updates} {beta} {cap}"]
    loss, gradient = ours(name, updates, beta, cap, monkeypatch)
    assert loss == pytest.approx(recorded[0], abs=1e-12)
    np.testing.assert_allclose(gradient, recorded[1], atol=1e-12)


@pytest.mark.slow
@for_each(("name", "updates", "beta", "cap"), GRID)
def test_what_is_recorded_is_what_trl_computes(name, updates, beta, cap):
    pytest.importorskip("trl")
    recorded = json.loads(RECORDED.read_text("utf-8"))["results"][f"{name} {updates} {beta} {cap}"]
    loss, gradient = of_trl(name, updates, beta, cap)
    assert loss == pytest.approx(recorded[0], abs=1e-12)
    np.testing.assert_allclose(gradient, recorded[1], atol=1e-12)


@for_each("name", ["rloo", "reinforce", "raft"])
def test_plain_gradients_are_those_of_the_formula(name, monkeypatch):
    given = {key: value.numpy() for key, value in inputs().items()}
    loss, gradient = ours(name, 1, 0.0, 0, monkeypatch)
    weights = given["advantages"][:, None] * given["mask"]
    divisor = sum(LENGTHS) if name == "raft" else len(LENGTHS) * MOST
    np.testing.assert_allclose(gradient, -weights / divisor, atol=1e-12)
    assert loss == pytest.approx(-(weights * given["policy"]).sum() / divisor)


def test_advantages_are_those_of_the_papers():
    rewards = np.array([[1.0, 0.0, 0.0, 3.0], [2.0, 2.0, np.nan, 2.0]])
    first, known = rewards[0], rewards[np.isfinite(rewards)]
    np.testing.assert_allclose(
        group_advantages(rewards, "group")[0], (first - first.mean()) / (first.std(ddof=1) + 1e-4)
    )
    np.testing.assert_allclose(group_advantages(rewards, "mean")[0], first - 1)
    others = [(first.sum() - value) / 3 for value in first]
    np.testing.assert_allclose(group_advantages(rewards, "leave_one_out")[0], first - others)
    np.testing.assert_allclose(
        group_advantages(rewards, "batch", known.mean())[1], [2 - known.mean()] * 2 + [0, 2 - known.mean()]
    )
    assert group_advantages(rewards, "best").tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert not group_advantages(rewards, "group")[1].any()


@for_each("kl", ["k2", "reward"])
def test_a_bandit_converges_to_the_reference_weighed_by_rewards(kl):
    """max E[R] - β KL(π ‖ π_ref) is reached by π_ref exp(R / β) / Z; here with samples from the policy."""
    torch.manual_seed(0)
    reference = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    rewards, beta = torch.tensor([0.0, 1.0, 0.5, 1.0], dtype=torch.float64), 0.7
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer, averages = torch.optim.Adam([logits], lr=0.05), []
    config = GRPOConfig("rloo", beta=beta, kl=kl).resolved  # type: ignore[arg-type]
    mask = torch.ones(2048, 1, dtype=torch.bool)
    for step in range(250):
        actions = torch.multinomial(logits.detach().softmax(-1), 2048, replacement=True)
        policy = logits.log_softmax(-1)[actions][:, None]
        scores = rewards[actions]
        if kl == "reward":
            scores = scores - beta * (policy.detach() - reference[actions][:, None])[:, 0]
        found = group_advantages(scores.numpy()[None], "leave_one_out")
        loss, _ = policy_loss(policy, policy.detach(), torch.from_numpy(found).view(-1, 1), mask, config)
        if kl != "reward":
            loss = loss + beta * kl_estimate(policy, reference[actions][:, None], kl)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        if step >= 150:
            averages.append(logits.detach().softmax(-1))
    expected = (reference + rewards / beta).softmax(-1)
    torch.testing.assert_close(torch.stack(averages).mean(0), expected, atol=0.01, rtol=0)


if __name__ == "__main__":
    results = {" ".join(map(str, case)): of_trl(*case) for case in GRID}
    versions = {name: version(name) for name in ("trl", "torch", "transformers")}
    RECORDED.write_text(json.dumps({"versions": versions, "results": results}) + "\n", "utf-8")
