"""What is shown of a model in training: how it goes on with texts, and how much of the machine the run uses."""

import json

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.artefact import StageContext
from lmworks.config import ConfigError, from_mapping
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenWriter
from lmworks.model.initialisation import initialise
from lmworks.model.model_costs import flops_per_token
from lmworks.model.presets import gpt2, llama
from lmworks.model.transformer import Transformer
from lmworks.train import train_stages
from lmworks.train.config import PretrainConfig, TrainConfig
from lmworks.train.held_out import beginnings_of, check_held_out, continue_text
from lmworks.train.loop import train as train_run
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.planning import measured_throughput
from lmworks.train.run import Run
from lmworks.train.run_log import LOG, read_log
from lmworks.train.run_report import curve_section, derived_section
from lmworks.train.validation import validate
from slow_cases import slow
from token_cases import write_dataset
from training_cases import loader_config, new_checkpoint, stage_inputs, write_text_dataset

MODELS = {
    "llama": llama(vocabulary=257, width=32, layers=2, heads=2, kv_heads=1, hidden=64, context_length=64),
    "gpt2": gpt2(vocabulary=257, width=32, layers=2, heads=2, context_length=24),
}


@torch.no_grad()
@for_each("family", MODELS)
def test_a_continuation_is_the_likeliest_token_each_time(family):
    """Against whole forwards without a cache; it ends where the context does, and before a token that stops it."""
    model = initialise(Transformer(MODELS[family]), seed=3)
    for parameter in model.parameters():
        parameter.mul_(3)  # so that it does not say the same token all the time
    ids = [5, 77, 130]
    expected = list(ids)
    while len(expected) < 24:
        expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    said = continue_text(model, ids, 21)
    assert said == expected[3:]
    assert len(set(said)) > 3
    assert continue_text(model, ids, 4) == said[:4]
    assert continue_text(model, ids, 100)[:21] == said
    if family == "gpt2":
        assert len(continue_text(model, ids, 100)) == 21
    assert continue_text(model, ids, 21, {said[5]}) == said[: said.index(said[5])]
    with pytest.raises(ValueError, match="a token to begin from"):
        continue_text(model, [], 4)


@torch.no_grad()
def test_a_continuation_is_drawn_at_a_temperature():
    """The first token of 600 seeds, against the softmax: Pearson's statistic has a mean of its degrees of freedom, here
    12, and is above 33 with a chance of 1 in 1,000."""
    model = initialise(Transformer(MODELS["llama"]), seed=3)
    for parameter in model.parameters():
        parameter.mul_(4)
    chances = (model(torch.tensor([[5, 77]]))[0, -1] / 0.5).softmax(-1)
    drawn = torch.tensor([continue_text(model, [5, 77], 1, (), 0.5, seed)[0] for seed in range(600)])
    likeliest = chances.topk(12).indices.tolist()
    expected = torch.tensor([*(chances[token] for token in likeliest), 1 - chances[likeliest].sum()]) * 600
    counts = torch.tensor([*((drawn == token).sum() for token in likeliest), 600])
    counts[-1] -= counts[:-1].sum()
    assert expected.min() > 5
    assert float(((counts - expected) ** 2 / expected).sum()) < 33
    said = [continue_text(model, [5, 77], 9, (), 0.5, seed) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_a_conversation_is_continued_from_its_first_answer(tmp_path):
    """Other texts from their first 16 tokens, or what there is of them; what is never learnt, or too long, not."""
    plain, asked = np.arange(1, 31), np.arange(40, 80)
    masks = [None, np.arange(40) >= 25, np.zeros(40, bool), np.arange(40) >= 33, None]
    with TokenWriter(tmp_path / "d", "0" * 64, 257) as writer:
        for ids, mask in zip((plain, asked, asked, asked, plain[:7]), masks, strict=True):
            writer.add(ids, "0" * 64, mask)
    found = beginnings_of([tmp_path / "d"], 32)
    assert found == [plain[:16].tolist(), asked[:25].tolist(), plain[:7].tolist()]
    assert beginnings_of([tmp_path / "d"], 5) == [plain[:5].tolist(), plain[:5].tolist()]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A machine that is measured at once, and remembered here."""
    durations = iter(range(1, 1000))
    monkeypatch.setattr(measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: next(durations) / 1000)
    monkeypatch.setenv("LMWORKS_HOME", str(tmp_path / "home"))


def test_a_stage_logs_validations_samples_and_utilisation(quick, tmp_path):
    inputs = stage_inputs(tmp_path, seed=1)
    (tmp_path / "tokens").rename(tmp_path / "held")
    (tmp_path / "held" / "manifest.json").write_text(
        json.dumps(
            {
                "stage": "data.tokenize",
                "version": 1,
                "key": "",
                "content_hash": "",
                "parents": {},
                "config": {"part": "held_out"},
            }
        )
    )
    inputs = {"held": tmp_path / "held", "tokens": stage_inputs(tmp_path)["tokens"], "vocabulary": inputs["vocabulary"]}
    train = TrainConfig(validate=10, precision="float32", log=1, samples=("ab", "Once"))
    config = PretrainConfig(parameters=60_000, tokens=5_000, length=32, batch=8, train=train)
    for name in ("output", "work"):
        (tmp_path / name).mkdir()
    result = train_stages.pretrain(config, StageContext(inputs, tmp_path / "output", tmp_path / "work"))
    lines = read_log(tmp_path / "output" / LOG)
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [10, 20]
    for line in validations:
        (low, high), n = line["loss_interval"], line["n"]
        assert low < line["loss"] < high and 1 < n <= 64
        assert line["bits_per_byte_interval"][0] < line["bits_per_byte"] < line["bits_per_byte_interval"][1]
    samples = [(line["step"], line["beginning"]) for line in lines if line["kind"] == "sample"]
    assert samples == [(10, "ab"), (10, "Once"), (20, "ab"), (20, "Once")]
    derived = json.loads((tmp_path / "work" / "derived.json").read_text())
    (kept,) = (json.loads(path.read_text()) for path in (tmp_path / "home" / "calibrations").iterdir())
    model = from_mapping(train_stages.Derived, derived).model
    step = next(line for line in lines if line["kind"] == "step")
    flops = 3 * flops_per_token(model, 32)  # the backward takes twice the forward
    assert step["utilisation"] == pytest.approx(step["tokens_per_second"] * flops / kept["products"])
    assert result.metrics["validation_loss_interval"] == validations[-1]["loss_interval"]
    table = next(each for each in result.sections[1].tables if each.columns[0] == "step")
    assert [row[:2] for row in table.rows] == samples


@pytest.mark.parametrize("precision", ["bfloat16", *slow("float32")])
def test_averaged_weights_are_validated_and_the_run_is_not_disturbed(precision, tmp_path):
    """What is told of the average is what the delivered weights give; a run that does not look ends with the same."""
    dataset = write_text_dataset(tmp_path / "d")
    runs = []
    for name in ("looking", "blind"):
        config = TrainConfig(precision=precision, average=0.9, validate=5 if name == "looking" else None)
        loader = Loader(loader_config(dataset))
        run = Run(new_checkpoint(), CausalLanguageModel(), loader, config, tmp_path / name)
        batch = loader.batch(0)
        run.validate = lambda run=run, batch=batch: validate(run.model, run.objective, [batch], 1)
        train_run(run)
        runs.append(run)
    looking, blind = runs
    for name, weight in blind.weights.weights.items():
        assert torch.equal(weight, looking.weights.weights[name])
        assert torch.equal(blind.average.weights[name], looking.average.weights[name])
    lines = read_log(tmp_path / "looking" / LOG)
    plain, averaged = (
        [line["loss"] for line in lines if line["kind"] == kind] for kind in ("validation", "average_validation")
    )
    assert len(plain) == len(averaged) == 4
    delivered = looking.finished().model.to(getattr(torch, precision))
    assert averaged[-1] == validate(delivered, looking.objective, [batch], 1).total.value
    assert plain[-1] == looking.validate().total.value != averaged[-1]


def test_an_average_is_what_the_report_tells_of(tmp_path):
    lines = [
        {"kind": "step", "step": 1, "loss": 5.0, "tokens_per_second": 9.0, "seconds": 1.0},
        {"kind": "validation", "step": 1, "loss": 4.0, "loss_interval": [3.9, 4.1], "n": 7, "signature": "a"},
        {"kind": "average_validation", "step": 1, "loss": 3.0, "loss_interval": [2.9, 3.1], "n": 7, "signature": "a"},
    ]
    (tmp_path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    section, metrics = curve_section(tmp_path / LOG)
    assert metrics["validation_loss"] == 3.0
    assert ("held-out loss of the averaged weights, nats per target", "3.000 (2.900 to 3.100, n = 7)") in (
        section.tables[0].rows
    )
    assert len(section.figures) == 1


@for_each(
    ("given", "told"),
    [
        ({"minutes": 2.0}, "The setting minutes was given; the rest follows."),
        ({"parameters": 9, "tokens": 7}, "The settings parameters and tokens were given; the rest follows."),
    ],
)
def test_the_report_says_what_was_given(given, told):
    derived = train_stages.Derived(MODELS["gpt2"], 1, 1, 1.0, 1, ())
    assert derived_section(derived, PretrainConfig(**given)).text == told


def test_an_empty_beginning_is_refused():
    with pytest.raises(ConfigError, match=r"train: samples are .* give it a word"):
        from_mapping(PretrainConfig, {"minutes": 1.0, "train": {"samples": ["a", ""]}})


def test_every_text_of_any_shard_that_is_in_both_is_counted_once(tmp_path):
    ids = [np.arange(6)] * 8
    trained = write_dataset(tmp_path / "trained", ids, shard_tokens=12)  # texts 0 to 7, in several shards
    apart, both = (write_dataset(tmp_path / str(first), ids, first=first) for first in (8, 5))
    assert len(trained.shards) > 2
    check_held_out({"trained": trained.folder}, {"apart": apart.folder})
    with pytest.raises(ValueError, match="3 of the 8 texts of both are in trained"):
        check_held_out({"trained": trained.folder}, {"apart": apart.folder, "both": both.folder})
