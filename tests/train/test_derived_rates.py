"""The rate and the warm-up that a pre-training run gets: what the report says is what the optimizer does."""

import re
from dataclasses import replace

import pytest
import torch

from kit.tables import for_each
from lmworks.artefact import StageContext, StageResult
from lmworks.train import train_stages
from lmworks.train.config import PretrainConfig, TrainConfig
from lmworks.train.derived_settings import HIGHEST_RATE, RULE, derive
from lmworks.train.optimizer_config import AdamW, Cosine, InverseSqrt, Linear, Lion, Muon, Sgd, WarmupStableDecay
from lmworks.train.optimizers.build_optimizers import build_optimizers
from lmworks.train.planning.hyperparameters import RULES
from training_cases import stage_inputs

TARGETS = PretrainConfig(parameters=2_000_000, tokens=10**7)


def derived_with(**train):
    return derive(replace(TARGETS, train=TrainConfig(**train)), 1024, 10**8)


def reason(derived, what):
    return next(row[1:] for row in derived.reasons if row[0] == what)


def test_the_rule_is_adams_and_muons():
    """DeepSeek's, 0.3118 C^-0.125, from 1.6e-3 to 6e-3 in runs of 1e14 to 1e18 operations; Lion at it diverges."""
    adam, muon = (derived_with(optimizer=optimizer) for optimizer in (AdamW(), Muon()))
    assert adam.rate == muon.rate
    assert 1.6e-3 < adam.rate < 6e-3
    assert "DeepSeek" in reason(adam, "rate")[1]


@for_each("optimizer", [Lion(), Sgd(), Lion(rate=3e-5), Sgd(rate=0.02), AdamW(rate=3e-4), Muon(rate=0.02)])
def test_other_optimizers_and_given_rates_keep_theirs(optimizer):
    derived = derived_with(optimizer=optimizer)
    assert derived.rate == optimizer.rate
    value, why = reason(derived, "rate")
    assert float(value) == optimizer.rate
    assert "DeepSeek" not in why


@for_each("optimizer", [Lion(), Sgd(), AdamW(), Muon(), AdamW(rate=3e-4)])
def test_a_given_rate_goes_before_the_optimizers(optimizer):
    derived = derive(replace(TARGETS, rate=0.005, train=TrainConfig(optimizer=optimizer)), 1024, 10**8)
    assert (derived.rate, reason(derived, "rate")) == (0.005, ("0.005", "as given"))


@for_each("kind", [Cosine, Linear, WarmupStableDecay, InverseSqrt])
def test_every_schedule_gets_the_warm_up_that_is_told(kind):
    derived, given = derived_with(schedule=kind()), derived_with(schedule=kind(warmup=37))
    assert derived.warmup == max(round(0.02 * derived.steps), 10)
    assert given.warmup == 37
    assert reason(given, "warm-up") == ("37 steps", "the schedule's, as given")


@for_each(
    ("muon", "rates"),
    [
        (replace(Muon(), rate=0.004), [0.004, 0.004]),
        (Muon(rate=0.004), [0.004, 0.004]),
        (Muon(rate=0.04, rest=AdamW(rate=0.002)), [0.04, 0.002]),
        (Muon(rate=0.04, rest=AdamW(rate=0.002)), [0.04, 0.002]),
        (Muon(), [0.001, 0.001]),
    ],
)
def test_what_is_beside_muon_goes_with_it_or_has_a_rate_of_its_own(muon, rates):
    weights = {
        "decoder.blocks.0.attention.query.weight": torch.zeros(4, 4),
        "embedding.tokens.weight": torch.zeros(5, 4),
    }
    assert [each.param_groups[0]["lr"] for each in build_optimizers(muon, weights)] == rates


def test_a_rate_that_is_given_is_taken_whatever_it_is():
    """A default's value too: what is written in a recipe is what trains."""
    for optimizer in (AdamW(rate=1e-3), Muon(rate=1e-3)):
        derived = derived_with(optimizer=optimizer)
        assert (derived.rate, reason(derived, "rate")[1]) == (1e-3, "the optimizer's, as given")
    assert derived_with(schedule=Cosine(warmup=0)).warmup == 0
    assert derived_with(schedule=InverseSqrt(warmup=1)).warmup == 1


def test_a_batch_larger_than_the_run_is_refused():
    with pytest.raises(ValueError, match="at most 938, or more tokens"):
        derive(PretrainConfig(parameters=200_000, tokens=60_000, length=64, batch=939), 1024, 10**8)
    config = PretrainConfig(parameters=200_000, tokens=60_000, length=64, batch=938)
    assert derive(config, 1024, 10**8).steps == 1


@for_each(
    ("sequences", "batch", "why_batch", "steps", "why_warmup"),
    [
        (3, 1, "too few for 200 steps", 3, "half of the steps"),
        (6, 1, "too few for 200 steps", 6, "half of the steps"),
        (500, 2, "so many that there are at least 200 steps", 250, "at least 10"),
    ],
)
def test_the_reasons_of_a_tiny_run_are_what_bounds_it(sequences, batch, why_batch, steps, why_warmup):
    config = PretrainConfig(parameters=200_000, tokens=64 * sequences, length=64)
    found = derive(config, 1024, 10**8)
    assert (found.batch, found.steps) == (batch, steps)
    assert re.search(rf"DeepSeek.* says \d+; .*{why_batch}", reason(found, "batch")[1])
    assert why_warmup in reason(found, "warm-up")[1]
    long = reason(derive(replace(config, tokens=10**10), 1024, 10**10), "batch")[1]
    assert "DeepSeek" in long and "steps" not in long and "says" not in long


@for_each(("optimizer", "why"), [(Lion(beta1=0.8), "by default"), (Lion(rate=3e-5), "as given"), (Sgd(), "by default")])
def test_it_is_told_whether_a_rate_was_given(optimizer, why):
    assert why in reason(derived_with(optimizer=optimizer), "rate")[1]


def test_the_rate_of_short_runs_is_bounded():
    tiny, small = (derive(PretrainConfig(parameters=10**6, tokens=tokens), 1024, 10**8) for tokens in (10**6, 10**7))
    assert tiny.rate == small.rate == HIGHEST_RATE < RULES[RULE].suggest(5e5, 1e6).learning_rate
    assert "at most 0.005" in reason(tiny, "rate")[1]


@for_each(
    ("optimizer", "schedule"), [(Lion(), InverseSqrt()), (Muon(), Linear()), (AdamW(), WarmupStableDecay(warmup=3))]
)
def test_what_was_derived_is_what_trains(optimizer, schedule, tmp_path, monkeypatch):
    seen = []

    def trained(run, context, report):
        seen.append(run.config)
        return StageResult(sections=tuple(section for section, _ in report))

    monkeypatch.setattr(train_stages, "fit", trained)
    config = PretrainConfig(parameters=60_000, tokens=20_000, length=32, train=TrainConfig(optimizer, schedule))
    result = train_stages.pretrain(config, StageContext(stage_inputs(tmp_path), tmp_path, tmp_path))
    rows = {row[0]: row[1] for row in result.sections[0].tables[0].rows}
    assert rows["rate"] == f"{seen[0].optimizer.rate:.2g}"
    assert rows["warm-up"] == f"{seen[0].schedule.warmup} steps"
