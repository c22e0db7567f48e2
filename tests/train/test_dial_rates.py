"""The rate and the warm-up that a pre-training run gets: what the report says is what the optimizer does."""

from dataclasses import replace

import pytest

from lmworks.artefact import StageContext, StageResult
from lmworks.train import stages
from lmworks.train.config import (
    AdamW,
    Cosine,
    InverseSqrt,
    Linear,
    Lion,
    Muon,
    PretrainConfig,
    Sgd,
    TrainConfig,
    WarmupStableDecay,
)
from lmworks.train.dial import at_rate, derive
from training_cases import stage_inputs

DIAL = PretrainConfig(parameters=2_000_000, tokens=10**7)


def derived_with(**train):
    return derive(replace(DIAL, train=TrainConfig(**train)), 1024, 10**8)


def reason(derived, what):
    return next(row[1:] for row in derived.reasons if row[0] == what)


def test_the_rule_is_adams_and_muons():
    """DeepSeek's, 0.3118 C^-0.125, from 1.6e-3 to 6e-3 in runs of 1e14 to 1e18 operations; Lion at it diverges."""
    adam, muon = (derived_with(optimizer=optimizer) for optimizer in (AdamW(), Muon()))
    assert adam.rate == muon.rate
    assert 1.6e-3 < adam.rate < 6e-3
    assert "DeepSeek" in reason(adam, "rate")[1]


@pytest.mark.parametrize(
    "optimizer", [Lion(), Sgd(), Lion(rate=3e-5), Sgd(rate=0.02), AdamW(rate=3e-4), Muon(rate=0.02)]
)
def test_other_optimizers_and_given_rates_keep_theirs(optimizer):
    derived = derived_with(optimizer=optimizer)
    assert derived.rate == optimizer.rate
    value, why = reason(derived, "rate")
    assert float(value) == optimizer.rate
    assert "DeepSeek" not in why


@pytest.mark.parametrize("optimizer", [Lion(), Sgd(), AdamW(), Muon(), AdamW(rate=3e-4)])
def test_the_dials_rate_goes_before_the_optimizers(optimizer):
    derived = derive(replace(DIAL, rate=0.005, train=TrainConfig(optimizer=optimizer)), 1024, 10**8)
    assert (derived.rate, reason(derived, "rate")) == (0.005, ("0.005", "as given"))


@pytest.mark.parametrize("kind", [Cosine, Linear, WarmupStableDecay, InverseSqrt])
def test_every_schedule_gets_the_warm_up_that_is_told(kind):
    derived, given = derived_with(schedule=kind()), derived_with(schedule=kind(warmup=37))
    assert derived.warmup == max(round(0.02 * derived.steps), 10)
    assert given.warmup == 37
    assert reason(given, "warm-up") == ("37 steps", "the schedule's, as given")


def test_what_is_beside_muon_moves_with_it():
    assert at_rate(Muon(), 0.004) == Muon(rate=0.004, rest=AdamW(rate=0.004))
    assert at_rate(Muon(rate=0.02, rest=AdamW(rate=0.002)), 0.04).rest.rate == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [(Lion(), InverseSqrt()), (Muon(), Linear()), (AdamW(), WarmupStableDecay(warmup=3))]
)
def test_what_was_derived_is_what_trains(optimizer, schedule, tmp_path, monkeypatch):
    seen = []

    def trained(checkpoint, loader, held_out, settings, context):
        seen.append(settings)
        return StageResult()

    monkeypatch.setattr(stages, "_train", trained)
    config = PretrainConfig(parameters=60_000, tokens=20_000, length=32, train=TrainConfig(optimizer, schedule))
    result = stages.pretrain(config, StageContext(stage_inputs(tmp_path), tmp_path, tmp_path))
    rows = {row[0]: row[1] for row in result.sections[0].tables[0].rows}
    assert rows["rate"] == f"{seen[0].optimizer.rate:.2g}"
    assert rows["warm-up"] == f"{seen[0].schedule.warmup} steps"
