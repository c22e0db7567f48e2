"""Settings of a fine-tuning run that are left out: they keep to the minutes, the memory and the literature."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.adapt.config import FullConfig, LoraConfig
from lmworks.config import from_mapping
from lmworks.train import settings
from lmworks.train.config import FinetuneConfig
from lmworks.train.run_report import curve_section
from lmworks.train.settings import derive_finetune, memory_parts, trained_parameters

LENGTHS = np.full(4000, 100)


def derive(checkpoint, seconds: float = 0.01, **given) -> FinetuneConfig:
    config = from_mapping(FinetuneConfig, {"method": {"kind": "lora"}, **given})
    count = lambda length: 400_000 // length  # noqa: E731
    return derive_finetune(config, checkpoint, LENGTHS, 100_000, count, lambda _: seconds)[0]


def memory(checkpoint, **given) -> float:
    found = derive(checkpoint, **given)
    return sum(memory_parts(found, checkpoint, trained_parameters(checkpoint, found.method)).values())


def test_the_minutes_bound_the_epochs_and_the_steps_are_enough_to_learn(tiny):
    at_leisure, hurried = derive(tiny, minutes=10), derive(tiny, seconds=1.0, minutes=5)
    sequences = 400_000 // at_leisure.length
    assert at_leisure.steps * at_leisure.batch == pytest.approx(3 * sequences, rel=0.02)
    assert 0.7 * 300 < hurried.steps * hurried.batch * 1.0 <= 300
    assert min(at_leisure.steps, hurried.steps) >= 50 and 0 < at_leisure.train.schedule.warmup < at_leisure.steps / 10
    assert derive(tiny, seconds=1.0, minutes=5, epochs=3).steps == at_leisure.steps  # what is set is not overruled


def test_few_short_rows_are_packed_into_shorter_sequences(tiny):
    """28 rows would be six sequences of 512 tokens, and hardly any steps; each alone, they are as many as there are."""
    rows = np.full(28, 100)
    found, _ = derive_finetune(FinetuneConfig(), tiny, rows, 1000, lambda length: 28 * 100 // length, lambda _: 0.01)
    assert found.length == 128 and found.steps >= 60
    assert found.train.micro_batch == found.batch == 1  # so that the memory is of what a step takes
    assert derive(tiny).length == min(512, tiny.config.context_length)  # there are enough of these


def test_lora_learns_ten_times_as_fast_as_all_weights(tiny):
    """Schulman et al. 2025: an alpha of 32."""
    lora, full = (derive(tiny, method=method) for method in ({"kind": "lora", "lora_alpha": 32}, {"kind": "full"}))
    assert lora.rate == pytest.approx(10 * full.rate)
    assert full.rate == settings.HIGHEST_RATE
    assert derive(tiny, rate=0.5).rate == 0.5
    assert derive(tiny, train={"optimizer": {"rate": 0.25}}).rate == 0.25


def test_what_will_not_fit_is_refused_at_once_and_says_what_takes_the_memory(tiny, monkeypatch):
    assert memory(tiny, length=64, train={"micro_batch": 1}) < memory(tiny, length=64)
    monkeypatch.setattr(settings, "free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"takes .*activations .*set a shorter length than 512"):
        derive(tiny, length=512, batch=32, minutes=5, seconds=0.0)  # before steps are measured


@for_each(("device", "fits"), [("cpu", True), ("cuda", False)])
def test_a_model_that_was_loaded_takes_memory_of_the_cpu_alone(device, fits, tiny, monkeypatch):
    monkeypatch.setattr(settings, "device_of_rank", lambda: torch.device(device))
    monkeypatch.setattr(settings, "free_memory", lambda device: 10**12)
    needed = settings._MARGIN * memory(tiny)
    monkeypatch.setattr(settings, "free_memory", lambda device: needed - 1)
    with nullcontext() if fits else pytest.raises(ValueError, match="the run takes"):
        derive(tiny)


def test_an_adapter_takes_less_memory_than_all_weights(tiny):
    """Of each weight that is not trained neither a gradient nor an optimizer's state: 12 bytes fewer in bfloat16."""
    small = {"length": 64, "batch": 1, "train": {"micro_batch": 1}}
    lora, full = (memory(tiny, method=method, **small) for method in ({"kind": "lora", "r": 1}, {"kind": "full"}))
    weights = sum(weight.numel() for weight in tiny.model.parameters())
    trained = trained_parameters(tiny, LoraConfig(r=1))
    assert trained_parameters(tiny, FullConfig()) == weights
    assert full - lora >= 10 * weights - 20 * trained


@for_each(("losses", "says"), [((3.0, 2.0, 1.5), False), ((3.0, 1.5, 2.0), True)])
def test_a_held_out_loss_that_rises_again_is_an_alarm(losses, says, tmp_path):
    common = {"kind": "validation", "n": 5, "signature": ""}
    lines = [{**common, "step": n, "loss": loss, "loss_interval": (loss, loss)} for n, loss in enumerate(losses)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    section, metrics = curve_section(log)
    assert metrics["validation_loss"] == losses[-1]
    assert bool(section.alarms) is says and all("over-fitted" in alarm for alarm in section.alarms)


@for_each(
    ("loss", "unit", "says"), [(0.0004, "nats per target", True), (0.004, "nats per target", False), (0.0, "", False)]
)
def test_a_training_loss_of_nothing_is_an_alarm(loss, unit, says, tmp_path):
    """But not where 0 is no perfect prediction: the loss of GRPO lies about 0."""
    log = tmp_path / "log.jsonl"
    log.write_text(
        json.dumps({"kind": "step", "step": 1, "loss": loss, "seconds": 1.0, "tokens_per_second": 1.0}) + "\n"
    )
    section, _ = curve_section(log, unit)
    assert [alarm.startswith("nothing was left to learn") for alarm in section.alarms] == [True] * says


def test_the_rank_holds_the_tokens_to_learn(tiny):
    ranks = [settings.with_rank(LoraConfig(), tiny, learned) for learned in (100, 30_000, 10**9)]
    each = trained_parameters(tiny, LoraConfig(r=1))
    assert [method.r for method in ranks if isinstance(method, LoraConfig)] == [8, 16, 64]
    assert 2 * 8 * each < 30_000 <= 2 * 16 * each
    assert settings.with_rank(LoraConfig(r=3), tiny, 10**9) == LoraConfig(r=3)


def test_a_config_has_epochs_or_steps(tiny):
    assert derive(tiny, steps=7).steps == 7
    with pytest.raises(ValueError, match="steps are given instead of epochs"):
        replace(FinetuneConfig(steps=7), epochs=1.0)
