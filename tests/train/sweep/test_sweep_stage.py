"""A sweep from its inputs to its report: the law behind the runs comes back, and a kill costs one run at most."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from byte_tokenizer import byte_tokenizer
from lmworks.artefact import StageResult
from lmworks.build import run_alone
from lmworks.config import to_mapping
from lmworks.records import Unscored
from lmworks.train.planning.plan import PlanConfig, make_plan
from lmworks.train.planning.plan_explanation import allocation_lines
from lmworks.train.planning.scaling_law_fit import FittedLaw, Interval, write_law
from lmworks.train.planning.scaling_laws import ParametricLaw, PublishedLaw, read_law
from lmworks.train.sweep import stage
from lmworks.train.sweep.findings import Trained, doubts, find
from token_cases import write_dataset
from training_cases import SPECIAL, write_text_dataset

LAW = ParametricLaw(E=1.2, A=25.0, B=60.0, alpha=0.28, beta=0.31)
RUN = Trained("N1-D1", 10**6, 10**7, 3.0, 3.0, None, 1.0, None)
SETTINGS = ["flops=2e13", "length=32", "sizes=4", "lengths=4"]


def as_made(folder: Path, name: str, part: str | None = None) -> Path:
    """What a stage would have left beside the files that are there."""
    config = {} if part is None else {"part": part, "held_out": 0.1}
    manifest = {"stage": "data.tokenize", "version": 1, "key": name, "content_hash": name, "config": config}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "parents": {}}))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Shards, their held-out part, and their vocabulary."""
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.save(folder / "vocabulary")
    generator = np.random.default_rng(0)
    for part, documents, first in (("training", 100, 0), ("held_out", 5, 1000)):
        ids = [generator.integers(0, 257, 40_000) for _ in range(documents)]
        write_dataset(folder / part, ids, vocabulary_size=257, vocabulary=tokenizer.hash, first=first)
    return [
        as_made(folder / "training", "t", "training"),
        as_made(folder / "held_out", "h", "held_out"),
        as_made(folder / "vocabulary", "v"),
    ]


@pytest.fixture
def no_checks(monkeypatch):
    """The inputs' manifests list no files."""
    monkeypatch.setattr("lmworks.build.verify", lambda *_: None)

    def busy(*_):
        raise ValueError("this machine is not measured in tests")

    monkeypatch.setattr(stage, "calibrate", busy)


class Trainer:
    """Stands for `pretrain`: the loss is that of the law, and a little more or less. Dies at one of its runs."""

    def __init__(self, noise: float = 0.0, dies_at: int | None = None) -> None:
        self.noise, self.dies_at, self.runs = noise, dies_at, []

    def __call__(self, config, context, derived):
        if len(self.runs) == self.dies_at:
            raise KeyboardInterrupt
        self.runs.append((config.parameters, config.tokens))
        (context.output / "log.jsonl").write_text('{"kind": "step", "step": 1}\n')
        scatter = np.random.default_rng(config.parameters + config.tokens).standard_normal()
        loss = LAW.loss(config.parameters, config.tokens) * np.exp(self.noise * scatter)
        metrics = {"validation_loss": loss, "loss": loss + 0.1, "targets": config.tokens, "steps": derived.steps}
        return StageResult(metrics=metrics)


def sweep(out, inputs, trainer, monkeypatch):
    """With fewer resamples than by default, which nothing here asks about."""
    monkeypatch.setattr(stage, "pretrain", trainer)
    monkeypatch.setattr(stage, "find", partial(find, resamples=10))
    return run_alone("train.sweep", out, inputs, [], SETTINGS)


def test_the_law_behind_the_runs_is_found_and_predicts_the_largest(inputs, tmp_path, monkeypatch, no_checks):
    outcome = sweep(tmp_path / "sweep", inputs, Trainer(), monkeypatch)
    own = read_law(outcome.folder)
    assert (own.source, own.doubts, own.vocabulary) == ("a sweep of 16 runs of llama", (), 257)
    for number in ("E", "A", "B", "alpha", "beta"):
        assert getattr(own.law, number) == pytest.approx(getattr(LAW, number), rel=1e-3)
    error = outcome.manifest.metrics["held_out_error"]
    assert abs(error["nats"]) < 1e-4
    found = json.loads((outcome.folder / "runs.json").read_text())["runs"]
    assert len(found) == len(list((outcome.folder / "logs").iterdir())) == 16
    assert all(run["loss"] == pytest.approx(LAW.loss(run["parameters"], run["tokens"])) for run in found)
    page = (outcome.folder / "report.html").read_text()
    assert page.count("<svg") == 1 and "src=" not in page and 'href="http' not in page
    _a_plan_goes_by(outcome.folder)


def _a_plan_goes_by(folder):
    request = PlanConfig(flops=1e18, law=str(folder), vocabulary=1000, device="h200")
    plan = make_plan(request)
    best = LAW.allocate(1e18)
    assert plan.allocation.parameters == pytest.approx(best.parameters, rel=1e-2)
    assert plan.allocation.loss == pytest.approx(best.loss, rel=1e-3)
    assert make_plan(replace(request, law=str(folder / "law.json"))).allocation == plan.allocation
    with pytest.raises(LookupError, match="or the folder of a sweep"):
        make_plan(PlanConfig(flops=1e18, law=str(folder.parent)))


def test_a_killed_sweep_runs_what_is_left_and_ends_the_same(inputs, tmp_path, monkeypatch, no_checks):
    whole = Trainer(noise=2e-3)
    undisturbed = sweep(tmp_path / "one", inputs, whole, monkeypatch)
    first, second = Trainer(noise=2e-3, dies_at=9), Trainer(noise=2e-3)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "two", inputs, first, monkeypatch)
    assert not (tmp_path / "two").exists()
    again = sweep(tmp_path / "two", inputs, second, monkeypatch)
    assert first.runs + second.runs == whole.runs and len(first.runs) == 9
    assert again.manifest.content_hash == undisturbed.manifest.content_hash
    interrupted = json.loads((again.folder / "runs.json").read_text())["runs"][9]
    assert interrupted["seconds"] is None  # nobody knows how long the process that died took


@pytest.mark.slow
def test_noise_widens_the_interval_of_the_prediction():
    def runs(noise):
        generator = np.random.default_rng(0)
        return [
            Trained(f"{n}-{d}", n, d, LAW.loss(n, d) * np.exp(noise * generator.standard_normal()), 3.0, None,
                    1.0, None)
            for n in (100_000, 200_000, 400_000, 800_000, 1_600_000)
            for d in (1_000_000, 2_000_000, 4_000_000, 8_000_000)
        ]  # fmt: skip

    (_, narrow), (error, wide) = find(runs(1e-5), 20).held_out.error, find(runs(3e-3), 20).held_out.error
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)
    assert abs(error) < 0.05
    assert find(runs(3e-3)[::-1], 20).held_out.error == (error, wide)


def test_a_law_that_says_nothing_beyond_its_runs_is_doubted():
    """Runs that have not left the plateau on which every training begins are fitted by numbers that are none."""

    def told(law):
        interval = Interval(law.exponent, law.exponent)
        return doubts(FittedLaw(law, {"exponent": interval}, (law,), 0.0, 12), [RUN])

    assert told(LAW) == []
    assert ["E is nothing" in doubt for doubt in told(replace(LAW, E=1e-9))] == [True]
    assert ["alpha is 29.8" in doubt for doubt in told(replace(LAW, alpha=29.8))] == [True]
    assert ["beta is 3" in doubt for doubt in told(replace(LAW, beta=3.0))] == [True]


def test_a_plan_tells_what_speaks_against_the_law_of_a_sweep(tmp_path):
    fitted = FittedLaw(LAW, {"exponent": Interval(0.1, 0.9)}, (LAW,), 0.0, 12)
    write_law(tmp_path / "law.json", fitted, "a sweep", doubts(fitted, [RUN]), 1000)

    def told(**request):
        made = make_plan(PlanConfig(flops=1e18, device="h200", **{"law": str(tmp_path)} | request))
        return {line.name: f"{line.value}: {line.why}" for line in allocation_lines(made)}

    assert told()["the law is"].startswith("doubtful: the interval of the exponent is wider than 0.5")
    assert told()["the law's vocabulary"].startswith("1,000: the plan has 32,000,")
    assert told()["the law's vocabulary"].endswith(": give --vocabulary 1000")
    assert "give" not in told(model="gpt2-124m")["the law's vocabulary"]
    assert "the law's vocabulary" not in told(vocabulary=1000)
    assert "the law is" not in told(law="besiroglu")


def test_a_law_of_an_older_sweep_is_read(tmp_path):
    kept = {"law": to_mapping(LAW), "intervals": {}, "n": 12, "source": "a sweep"}
    (tmp_path / "law.json").write_text(json.dumps(kept))
    assert read_law(tmp_path) == PublishedLaw(LAW, "a sweep", "of your own text and vocabulary")
    (tmp_path / "law.json").write_text(json.dumps({"law": to_mapping(LAW)}))
    with pytest.raises(ValueError, match=r"law\.json"):
        read_law(tmp_path)


def test_runs_without_a_law_say_why(inputs, tmp_path, monkeypatch, no_checks):
    """Losses that do not fall are told, and kept: hours of work end in a report, not in an error."""

    class Flat(Trainer):
        def __call__(self, config, context, derived):
            result = super().__call__(config, context, derived)
            return StageResult(metrics={**result.metrics, "validation_loss": 3.0})

    outcome = sweep(tmp_path / "sweep", inputs, Flat(), monkeypatch)
    assert "do not fall" in outcome.manifest.metrics["no_law"]
    assert not (outcome.folder / "law.json").exists()
    found = [Trained(**run) for run in json.loads((outcome.folder / "runs.json").read_text())["runs"]]
    findings = find(found, 10)
    assert isinstance(findings.held_out, Unscored)
    page = (outcome.folder / "report.html").read_text()
    assert "No law follows" in page and "What to do next: sweep again" in page and "--set factor=3" in page
    with pytest.raises(LookupError, match=r"no law follows .* report\.html says why.* besiroglu"):
        make_plan(PlanConfig(flops=1e18, law=str(outcome.folder)))


def test_inputs_that_do_not_go_together_are_refused(inputs, tmp_path, monkeypatch, no_checks):
    training, held_out, vocabulary = inputs
    with pytest.raises(ValueError, match=r"second stage data\.tokenize"):
        sweep(tmp_path / "out", [training, vocabulary], Trainer(), monkeypatch)
    with pytest.raises(ValueError, match="expected one vocabulary"):
        sweep(tmp_path / "out", [training, held_out], Trainer(), monkeypatch)
    other = write_text_dataset(tmp_path / "other")
    with pytest.raises(ValueError, match="of another vocabulary"):
        sweep(tmp_path / "out", [as_made(other, "o", "training"), held_out, vocabulary], Trainer(), monkeypatch)
    index = json.loads((held_out / "shards.json").read_text())
    write_dataset(tmp_path / "one", [np.arange(20)], vocabulary_size=257, vocabulary=index["vocabulary"], first=1000)
    alone, trainer = as_made(tmp_path / "one", "a", "held_out"), Trainer()
    with pytest.raises(ValueError, match="makes 1 sequence of 32 tokens, and a loss with an interval takes two"):
        sweep(tmp_path / "out", [training, alone, vocabulary], trainer, monkeypatch)
    assert not trainer.runs
    assert not (tmp_path / "out").exists()
