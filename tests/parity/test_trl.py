"""Losses and gradients of preference methods and reward models against TRL's, in float64."""

import json

import pytest
import torch

from kit.tables import for_each
from lmworks.align.config import DPOConfig, KTOConfig, RewardConfig
from lmworks.align.dpo import REFERENCE, Pairs
from lmworks.align.kto import KTO, with_baseline
from lmworks.align.log_probabilities import completion_log_probabilities, sequences_of
from lmworks.align.reward_model import Reward
from lmworks.data.token_groups import GroupBatch
from parity import trl_losses

RECORDED = json.loads(trl_losses.RECORDED.read_text("utf-8"))


def of_ours(case):
    method, name = case.split("-")
    batch, (policy, reference) = trl_losses.pairs(), (each.model.double() for each in trl_losses.models())
    if method == "reward":
        policy, (margin, centring) = trl_losses.judge().model.double(), trl_losses.REWARD[name]
        objective = Reward("pairwise", RewardConfig(margin, centring))
    elif method == "dpo":
        objective = Pairs(DPOConfig(**trl_losses.DPO[name]))
        batch = referenced(reference, batch)
    else:
        labels, wanted, unwanted = trl_losses.KTO[name]
        objective = KTO(KTOConfig(desirable=wanted, undesirable=unwanted))
        batch = referenced(reference, mismatched(batch, labels))
        batch = objective.examples(with_baseline(policy, [batch])[0], 0)
    (loss,) = objective.losses(policy, batch).values()
    (loss.sum / loss.count).backward()
    gradients = {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}
    return trl_losses.summary(float(loss.sum.detach()) / loss.count, gradients)


def referenced(model, batch):
    with torch.no_grad():
        sums = completion_log_probabilities(model, sequences_of(batch)).sum(-1).view(len(batch), -1)
    return GroupBatch(batch.ids, batch.attention_mask, batch.completion_mask, {**batch.columns, REFERENCE: sums})


def mismatched(batch, labels):
    """The first completions, each with the mismatched one behind it, as `with_mismatched` groups them."""
    longest = batch.ids.shape[2]
    own = batch.ids[:, 0], batch.attention_mask[:, 0], batch.completion_mask[:, 0]
    parts = []
    for mine, other in zip(own, trl_losses.swapped(batch), strict=True):
        width = max(longest, other.shape[1])
        both = [torch.nn.functional.pad(each, (0, width - each.shape[1])) for each in (mine, other)]
        parts.append(torch.stack(both, 1))
    column = torch.tensor(labels, dtype=torch.float64)[:, None].expand(-1, 2)
    return GroupBatch(*parts, {"label": column})


def check(case, expected, tolerance):
    found = of_ours(case)
    assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    assert found["gradients"].keys() == expected["gradients"].keys()
    for name, numbers in expected["gradients"].items():
        assert found["gradients"][name] == pytest.approx(numbers, rel=tolerance, abs=tolerance * numbers[0]), name


CASES = [case for case in RECORDED if case != "versions"]


@for_each("case", CASES)
def test_losses_and_gradients_are_those_that_trl_computed(case):
    check(case, RECORDED[case], 2e-5)  # of float32 norms and rotations, on both sides


@pytest.mark.slow
def test_they_are_those_that_an_installed_trl_computes():
    pytest.importorskip("trl", reason="TRL is not installed: only its recorded numbers were compared with")
    for case, expected in trl_losses.of_trl().items():
        if case != "versions":
            check(case, expected, 2e-5)
