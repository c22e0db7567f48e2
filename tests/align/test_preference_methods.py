"""Preference methods: fixed points, closed forms, and invariance to padding, order, micro-batches and ranks."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from generate.engine_cases import tiny_llama
from kit.tables import for_each
from lmworks.align.config import (
    DPOConfig,
    KTOConfig,
    OfflineConfig,
    ORPOConfig,
    RewardConfig,
    RowStoppingConfig,
    SimPOConfig,
)
from lmworks.align.dpo import REFERENCE, Pairs, dpo, orpo, simpo
from lmworks.align.early_stopping import EarlyStopping
from lmworks.align.kto import KTO, KTOLoader, with_baseline, with_mismatched
from lmworks.align.log_probabilities import check_start, reference_sums
from lmworks.align.reward_model import Reward
from lmworks.align.stage_offline import derive_offline
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.group_loader import GroupLoader
from lmworks.data.token_groups import TokenGroup, join_groups
from lmworks.train.config import TrainConfig
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.loop import train
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.objective import select_rows
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.parallelize import parallelize
from lmworks.train.parallel.ranks import join
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from parity.trl_losses import judge, models
from ranks import on_ranks

DPO_LOSSES = ("sigmoid", "robust", "cdpo", "ipo", "sigmoid_norm")
OBJECTIVES = {
    **{loss: Pairs(DPOConfig(loss=loss, label_smoothing=0.1 * (loss in ("robust", "cdpo")))) for loss in DPO_LOSSES},
    "nll": Pairs(DPOConfig(nll=0.5)),
    "simpo": Pairs(SimPOConfig()),
    "orpo": Pairs(ORPOConfig()),
    "kto": KTO(KTOConfig(undesirable=1.5)),
    **{kind: Reward(kind) for kind in ("pairwise", "label", "rating", "process")},
}
ROWS = 8


@cache
def groups(name):
    """8 ragged rows as a method takes them, with the columns that it reads."""
    draw, made = torch.Generator().manual_seed(1), []
    for row in range(ROWS):
        lengths = 3 + row, 1 + row, 9 - row
        prompt, *completions = (torch.randint(5, 255, (length,), generator=draw).tolist() for length in lengths)
        if name == "process":
            ids, ends = [prompt + completions[0]] * 2, [[False] * (3 + row + 1 + row) for _ in range(2)]
            ends[row % 2][-1] = ends[1][3] = True
            ends[0][3] = False
            made.append(TokenGroup(ids, ends))
            continue
        kept = completions[: 1 if name in ("kto", "label", "rating") else 2]
        learned = [[False] * len(prompt) + [True] * len(each) for each in kept]
        columns = {name if name == "rating" else "label": [float(row % 2)]} if len(kept) == 1 else {}
        made.append(TokenGroup([prompt + each for each in kept], learned, columns))
    found = join_groups(made)
    found = with_mismatched(found, 64) if name == "kto" else found
    columns = {REFERENCE: reference_sums(models()[1].model, found)} if name not in ("simpo", "orpo") else {}
    return replace(found, columns={**found.columns, **columns})


def gradients_of(name, batch, micro_batch=None, parallel=None):
    """(loss, gradient) of one step of a method, of this rank's rows."""
    objective, model = OBJECTIVES[name], (judge() if isinstance(OBJECTIVES[name], Reward) else models()[0]).model
    ranks, config = join(parallel or ParallelConfig()), TrainConfig(parallel=parallel or ParallelConfig())
    model = parallelize(model.train(), config, ranks)
    weights = Weights(model, AdamW(), "float32", ranks)
    if name == "kto":
        batch = with_baseline(model, [batch], ranks.total)[0]
    found = compute_gradients(model, weights, objective, objective.examples(batch, 0), micro_batch)
    return found.loss, torch.cat([gradient.flatten() for _, gradient in weights.gradients()])


def same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-4)
    torch.testing.assert_close(one[1], other[1], rtol=1e-3, atol=2e-5)


QUICK = ("sigmoid", "ipo", "orpo", "kto", "pairwise", "process")
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in OBJECTIVES]


@pytest.mark.parametrize("name", ALL)
def test_padding_order_and_micro_batches_change_nothing(name):
    batch = groups(name).batch(range(ROWS))
    whole = gradients_of(name, batch)
    same(gradients_of(name, batch, micro_batch=1), whole)
    same(gradients_of(name, select_rows(batch, torch.arange(ROWS - 1, -1, -1))), whole)
    wider = {field: pad(getattr(batch, field), (0, 7)) for field in ("ids", "attention_mask", "completion_mask")}
    same(gradients_of(name, replace(batch, **wider)), whole)


def on_rank(name):
    parallel = ParallelConfig(data=2, zero=1)
    rank = join(parallel).rows[0]
    return gradients_of(name, groups(name).batch(range(5 * rank, 5 + 3 * rank)), parallel=parallel)[0]


@pytest.mark.slow
@for_each("name", OBJECTIVES)
def test_two_ranks_have_the_loss_of_one(name):
    alone, _ = gradients_of(name, groups(name).batch(range(ROWS)))
    assert on_ranks(2, on_rank, name) == [pytest.approx(alone, rel=1e-4)] * 2


def references_on_rank():
    done, halves = [], [np.arange(4), np.arange(4, ROWS)]
    ranks = join(ParallelConfig(data=torch.distributed.get_world_size()))
    sums = reference_sums(
        models()[1].model, groups("sigmoid"), "cpu", lambda *told: done.append(told[0]), halves, ranks
    )
    return done, sums.tolist()


@pytest.mark.slow
def test_references_are_computed_by_all_processes():
    alone = pytest.approx(reference_sums(models()[1].model, groups("sigmoid")), rel=1e-5)
    assert on_ranks(2, references_on_rank) == [([4], alone), ([4], alone)]


@for_each(("name", "action"), [("sigmoid", "lower"), ("kto", "stop")])
def test_early_stopping_acts_where_what_is_wanted_gets_unlikely(name, action, tmp_path):
    """At a rate that the model falls apart at, in KTO as nothing but what is not wanted counts; and it goes on as it
    was saved."""
    objective = KTO(KTOConfig(desirable=1e-3)) if name == "kto" else OBJECTIVES[name]
    checkpoint, shown = tiny_llama(), groups(name)
    shown = replace(shown, columns={**shown.columns, REFERENCE: reference_sums(checkpoint.model, shown)})
    kind = KTOLoader if name == "kto" else GroupLoader
    loader = kind(GroupLoaderConfig(64, 4, steps=30), shown)
    limits = (EarlyStopping(RowStoppingConfig(action=action)), EarlyStopping(RowStoppingConfig(action=action)))
    config = TrainConfig(AdamW(rate=0.1, decay=0.0), log=1)
    run = Run(checkpoint, objective, loader, config, tmp_path, early_stopping=limits[0])
    loader.policy = run.model
    train(run)
    assert ("early_stopping.log_ratio_chosen" in run.stop) == (action == "stop")
    lines = read_log(tmp_path / "log.jsonl")
    acted = next(line["step"] for line in lines if "log_ratio_chosen is" in line.get("text", ""))
    steps = {line["step"]: line for line in lines if line["kind"] == "step"}
    assert all(steps[number]["log_ratio_chosen"] < -0.5 for number in range(acted - 4, acted + 1))
    assert acted == 30 or action == "stop" or steps[acted + 1]["rate"] < 0.6 * steps[acted]["rate"]
    again = kind(GroupLoaderConfig(64, 4, steps=30), shown)
    Run(tiny_llama(), objective, again, config, tmp_path, early_stopping=limits[1]).restore(run.position.step)
    assert limits[0] == limits[1] and max(limits[1].passed.values()) > 0


FIXED_POINTS = {**dict.fromkeys(("sigmoid", "sigmoid_norm", "cdpo", "robust"), np.log(2)), "ipo": 25}


@for_each(("loss", "value"), FIXED_POINTS.items())
def test_at_its_reference_a_policy_has_the_loss_of_no_preference(loss, value):
    sums = torch.tensor([[-3.0, -7.0], [-20.0, -1.0]], dtype=torch.float64)
    config = DPOConfig(loss=loss, label_smoothing=0.2 * (loss in ("robust", "cdpo")))
    assert dpo(sums, sums, torch.tensor([[2, 3], [9, 1]]), config).tolist() == pytest.approx([value] * 2)


def test_kto_begins_at_one_half_and_its_baseline_is_what_mismatched_completions_gained():
    shown, policy = groups("kto"), models()[1].model
    at_start = with_baseline(policy, [shown.batch(range(ROWS))])[0]
    objective = OBJECTIVES["kto"]
    (loss,) = objective.losses(policy, objective.examples(at_start, 0)).values()
    weights = [1.5, 1.0] * (ROWS // 2)  # label 0, then 1
    assert float(loss.sum.detach()) == pytest.approx(sum(weights) / 2, rel=1e-4)
    for row in range(ROWS):  # the mismatched one has the row's prompt and the next one's completion
        (_, mine), following = shown.batch([row]).ids[0], shown.batch([(row + 1) % ROWS])
        tail = following.ids[0, 0][following.completion_mask[0, 0]]
        assert mine[: 3 + row].tolist() == shown.batch([row]).ids[0, 0][: 3 + row].tolist()
        assert mine[3 + row : 3 + row + len(tail)].tolist() == tail.tolist()
    other = models()[0].model
    gained = reference_sums(other, shown).reshape(-1, 2)[:, 1] - shown.columns[REFERENCE].reshape(-1, 2)[:, 1]
    columns = {**shown.columns, REFERENCE: shown.columns[REFERENCE] - 10}  # so that it is above 0
    loader = KTOLoader(GroupLoaderConfig(64, ROWS), replace(shown, columns=columns))
    loader.policy = other
    assert next(loader).columns["baseline"].unique().tolist() == pytest.approx([gained.mean() + 10], rel=1e-4)


def test_simpo_and_orpo_are_their_papers_equations():
    sums, lengths = np.array([[-3.0, -7.5], [-20.0, -1.0]]), np.array([[2, 3], [9, 1]])
    mean = sums / lengths
    given = torch.tensor(sums), torch.tensor(lengths)
    margin = 2.5 * (mean[:, 0] - mean[:, 1]) - 1.2
    assert simpo(*given, SimPOConfig(2.5, 1.2)).tolist() == pytest.approx(np.log1p(np.exp(-margin)))
    odds = np.exp(mean) / (1 - np.exp(mean))
    ratio = odds[:, 0] / odds[:, 1]
    expected = -mean[:, 0] - 0.3 * np.log(ratio / (1 + ratio))
    assert orpo(*given, ORPOConfig(0.3)).tolist() == pytest.approx(expected)


def test_dpo_finds_the_rewards_that_preferences_were_drawn_from():
    """Of one token a completion, a table of logits: β (ln π - ln π_ref) is the Bradley-Terry reward, but for a constant
    (Rafailov et al. 2023, theorem 1)."""
    rewards, beta = torch.tensor([0.0, 0.5, -1.0, 1.5], dtype=torch.float64), 0.5
    reference = torch.tensor([0.1, -0.4, 0.8, 0.0], dtype=torch.float64).log_softmax(0)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    numbers = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    shares = torch.sigmoid(rewards[numbers[:, 0]] - rewards[numbers[:, 1]])  # of infinitely many draws
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        policy = logits.log_softmax(0)[numbers]
        loss = (shares * dpo(policy, reference[numbers], torch.ones_like(numbers), DPOConfig(beta=beta))).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = beta * (logits.detach().log_softmax(0) - reference)
    torch.testing.assert_close(found - found[0], rewards, atol=1e-4, rtol=0)


def test_a_policy_that_does_not_begin_as_its_reference_is_refused():
    batch = groups("sigmoid").batch(range(3))
    check_start(models()[1].model, batch, REFERENCE)
    with pytest.raises(ValueError, match="does not begin as its reference"):
        check_start(models()[0].model, batch, REFERENCE)


def test_a_pair_of_equal_scores_has_no_preference_and_centring_holds_scores_near_zero():
    from lmworks.align.reward_model import pairwise

    scores = torch.tensor([[2.0, 2.0], [1.0, -1.0]])
    assert pairwise(scores, RewardConfig(center_rewards_coefficient=0.0))[0] == pytest.approx(np.log(2))
    assert pairwise(scores, RewardConfig(0.5, 0.01)).tolist() == pytest.approx(
        [np.log1p(np.exp(0.5)) + 0.16, np.log1p(np.exp(-1.5))]
    )


def test_the_batch_follows_the_steps_that_are_given():
    found, _ = derive_offline(OfflineConfig(rows=("x",), steps=4), groups("sigmoid"), True, lambda _: 0.0)
    assert (found.steps, found.batch) == (4, ROWS // 4)


def test_before_the_first_step_kto_is_neither_right_nor_wrong_in_bfloat16():
    model = tiny_llama().model.bfloat16()
    together = np.split(np.arange(ROWS), 2)
    columns = {**groups("kto").columns, REFERENCE: reference_sums(model, groups("kto"), together=together, apart=2)}
    shown = replace(groups("kto"), columns=columns)
    batches = [shown.batch(each) for each in together]
    (whole,) = with_baseline(model, [shown.batch(range(ROWS))], micro_batch=ROWS // 2)
    assert whole.columns["baseline"].unique().tolist() == [0]
    batches = with_baseline(model, batches)
    losses = [OBJECTIVES["kto"].losses(model, OBJECTIVES["kto"].examples(each, 0))["kto"] for each in batches]
    assert [float(each.metrics["accuracy"]) for each in losses] == [ROWS / 4] * 2
