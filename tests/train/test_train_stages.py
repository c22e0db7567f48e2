"""Documents to a trained checkpoint, as a recipe runs it: the target, the shards, the loop, the report."""

import json
import random
from math import ceil, log
from pathlib import Path

import pytest
import torch

import lmworks
from kit.tables import for_each
from lmworks.adapt import load_adapter
from lmworks.artefact import StageContext, read_manifest
from lmworks.build import run_alone
from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.generate import Request, SamplingParameters
from lmworks.model.model_costs import count_parameters
from lmworks.model.tokenizer_lookup import find_tokenizer
from lmworks.records import Message
from lmworks.train.config import PretrainConfig, TrainConfig
from lmworks.train.derived_settings import Derived, derive
from lmworks.train.planning.compute import train_flops_per_token
from lmworks.train.planning.plan import Speed
from lmworks.train.run_log import LOG, read_log
from lmworks.train.train_stages import find_vocabulary
from token_cases import hash_of

WORDS = ["the", "cat", "dog", "sees", "hears", "a", "small", "red", "house", "and", "then", "sleeps"]
SMALL = ["parameters=60000", "tokens=60000", "length=64", "train.precision=float32", "train.log=5", "train.validate=20"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    generator = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(60):
        sentences = (" ".join(generator.choices(WORDS, k=generator.randint(4, 9))) + "." for _ in range(12))
        (folder / "texts" / f"{number}.txt").write_text("\n".join(sentences))
    run("corpus.read", folder / "documents", [], [f'sources=["{folder}/texts"]'])
    settings = ["vocabulary_size=300", 'special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]']
    run("tokenizer.bpe", folder / "vocabulary", [folder / "documents"], settings)
    inputs = [folder / "documents", folder / "vocabulary"]
    run("data.tokenize", folder / "tokens", inputs, ["held_out=0.2"])
    run("data.tokenize", folder / "held", inputs, ["held_out=0.2", "part=held_out"])
    run("train.pretrain", folder / "model", [folder / "tokens", folder / "held", folder / "vocabulary"], SMALL)
    return folder


def run(use, out, inputs, settings):
    return run_alone(use, out, inputs, [], settings)


def test_a_checkpoint_that_has_learnt_is_made(workspace):
    manifest = read_manifest(workspace / "model")
    lines = read_log(workspace / "model" / LOG)
    assert manifest.metrics["validation_loss"] < lines[0]["loss"] - 1.5
    assert 0 < manifest.metrics["bits_per_byte"] < 3
    assert manifest.metrics["parameters"] == pytest.approx(60_000, rel=0.34)
    checkpoint = lmworks.load(workspace / "model")
    assert "<|endoftext|>" in checkpoint.tokenizer.special_ids
    reasons = json.loads((workspace / "model" / "sections.json").read_text())[0]["tables"][0]["rows"]
    assert {"parameters", "width", "layers", "heads", "tokens", "batch", "steps", "rate", "warm-up"} <= {
        row[0] for row in reasons
    }
    page = (workspace / "model" / "report.html").read_text()
    assert page.count("<svg") == 1 and "nats per target over" in page and "the model continues" in page


def test_a_new_model_begins_by_its_fan_in(workspace):
    """A run whose rate is next to nothing delivers the weights that it began with."""
    settings = [*SMALL, "tokens=2000", "rate=1e-12"]
    run("train.pretrain", workspace / "begun", [workspace / "tokens", workspace / "vocabulary"], settings)
    model = lmworks.load(workspace / "begun").model
    width = model.config.embedding.width
    block = model.decoder.blocks[0]
    assert model.tokens.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert block.attention.query.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)
    assert block.attention.output.weight.std().item() < 0.8 * width**-0.5


def test_the_held_out_part_is_what_bits_per_byte_are_of(workspace):
    """Bits of the held-out targets over their bytes, computed here from the checkpoint and the texts themselves."""
    import torch

    from lmworks.corpus.documents import DocumentStore
    from lmworks.data.token_dataset import TokenDataset

    checkpoint = lmworks.load(workspace / "model")
    held = TokenDataset(workspace / "held")
    store = DocumentStore(workspace / "documents")
    nats, size = 0.0, 0
    for number in range(held.documents):
        text = store.get(hash_of(held, number)).text
        ids = torch.from_numpy(held.read(held.offsets[number], held.offsets[number + 1]).astype("int64"))[None]
        for start in range(0, ids.shape[1], 64):  # as packed: pieces of 64, of which each sees itself alone
            piece = ids[:, start : start + 65]
            logits = checkpoint.model(piece[:, :64])[0].detach().log_softmax(-1)
            targets = piece[0, 1:]
            nats -= float(logits[: len(targets)].gather(-1, targets[:, None]).sum())
        size += len(text.encode()) - len(checkpoint.tokenizer.decode([int(ids[0, 0])]).encode())
    found = read_manifest(workspace / "model").metrics["bits_per_byte"]
    assert found == pytest.approx(nats / log(2) / size, rel=1e-3)


def test_going_on_from_a_checkpoint(workspace):
    run(
        "train.finetune",
        workspace / "finer",
        [workspace / "model", workspace / "tokens", workspace / "held"],
        ["epochs=2", "length=64", "train.precision=float32", "rate=0.003"],
    )
    before, after = (read_manifest(workspace / name).metrics for name in ("model", "finer"))
    assert after["validation_loss"] < before["validation_loss"] + 0.02
    assert after["targets"] == pytest.approx(2 * read_manifest(workspace / "tokens").metrics["tokens"], rel=0.1)


def test_weights_that_are_frozen_stay_as_they_are(workspace):
    settings = ["epochs=1", "length=64", "rate=0.01", "train.precision=float32"]
    settings.append('method.freeze=["decoder\\\\.blocks\\\\.0\\\\..*"]')
    run("train.finetune", workspace / "frozen", [workspace / "model", workspace / "tokens"], settings)
    before, after = (lmworks.load(workspace / name).model.state_dict() for name in ("model", "frozen"))
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed and not [name for name in changed if name.startswith("decoder.blocks.0.")]


def test_dialogues_teach_the_assistants_turns_and_their_template(workspace):
    """What is served is what was taught: the checkpoint answers in the form of the conversations, and ends its turn."""
    talks = workspace / "talks.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "the cat"}]} for word in WORDS
    ]
    talks.write_text("\n".join(json.dumps(row) for row in rows))
    settings = [f'conversations=["{talks}"]', "family=chatml"]
    run("data.tokenize", workspace / "dialogues", [workspace / "vocabulary"], settings)
    run(
        "train.finetune",
        workspace / "assistant",
        [workspace / "model", workspace / "dialogues"],
        ["epochs=40", "batch=4", "length=64", "train.precision=float32", "rate=0.005"],
    )
    checkpoint = lmworks.load(workspace / "assistant")
    engine = lmworks.Engine(checkpoint)
    (completion,) = engine.generate(
        [Request(messages=(Message("user", "dog"),), sampling=SamplingParameters(max_tokens=8))]
    )
    assert completion.text == "the cat"
    assert completion.finish_reason == "stop"


def test_an_adapter_is_delivered_as_peft_s_folder_or_merged(workspace):
    """Both compute the same, and the base is not what they compute."""
    settings = ["epochs=4", "batch=4", "length=64", "train.precision=float32", "rate=0.01", "method.kind=lora"]
    inputs = [workspace / "model", workspace / "tokens"]
    run("train.finetune", workspace / "adapter", inputs, settings)
    run("train.finetune", workspace / "merged", inputs, [*settings, "merge=true"])
    base, merged = lmworks.load(workspace / "model"), lmworks.load(workspace / "merged")
    adapted = load_adapter(workspace / "adapter", base)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (adapted(ids) - merged.model(ids)).abs().max() < 1e-4
        assert (adapted(ids) - base.model(ids)).abs().max() > 0.1
    with pytest.raises(ValueError, match="merge is of"):
        run("train.finetune", workspace / "x", inputs, ["merge=true"])


def test_conversations_are_whole_and_weigh_what_is_set(workspace):
    learned = {}
    for name, answer in (("one", "the cat"), ("two", "a red house and then")):
        row = {"prompt": "dog", "completion": answer}
        (workspace / f"{name}.jsonl").write_text(json.dumps(row))
        settings = [f'conversations=["{workspace / name}.jsonl"]', "family=chatml"]
        metrics = run("data.tokenize", workspace / name, [workspace / "vocabulary"], settings).manifest.metrics
        learned[name] = metrics["learned_tokens"]
    inputs = [workspace / name for name in ("model", "one", "two")]
    settings = ["epochs=4", "batch=1", "train.precision=float32"]
    weights = ["weights={one=1, two=3}"]
    weighed = run("train.finetune", workspace / "weighed", inputs, [*settings, *weights, "length=64"])
    assert weighed.manifest.metrics["targets"] == 2 * learned["one"] + 6 * learned["two"]
    for wrong, problem in (
        ("weights={x=1}", "weights are of x"),
        ("length=8", "would be cut inside a turn: set length=8"),
    ):
        with pytest.raises(ValueError, match=problem):
            run("train.finetune", workspace / "x", inputs, [*settings, wrong])


def test_the_template_is_that_of_the_conversations(workspace):
    """Also one of the tokenizer's own, which no setting names; two of them cannot be served together."""
    talks = workspace / "few.jsonl"
    talks.write_text('[{"role": "user", "content": "dog"}, {"role": "assistant", "content": "the cat"}]\n')
    own = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}"
    find_tokenizer(str(workspace / "vocabulary")).tokenizer.save(workspace / "own", own)
    settings = [f'conversations=["{talks}"]']
    run("data.tokenize", workspace / "of own", [], [*settings, f'tokenizer="{workspace / "own"}"'])
    run("data.tokenize", workspace / "of chatml", [workspace / "vocabulary"], [*settings, "family=chatml"])
    short = ["epochs=1", "batch=1", "length=64", "train.precision=float32"]
    run("train.finetune", workspace / "taught", [workspace / "model", workspace / "of own"], short)
    assert lmworks.load(workspace / "taught").chat_template == own
    with pytest.raises(ValueError, match=r"conversations of .* are written by different chat templates"):
        inputs = [workspace / name for name in ("model", "of own", "of chatml")]
        run("train.finetune", workspace / "x", inputs, short)


def test_a_few_conversations_are_a_step_an_epoch(workspace):
    """They fit into one sequence: three epochs are three steps, not one step of the same sequence three times."""
    talks = workspace / "few.jsonl"
    turns = [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "the cat"}]
    talks.write_text(json.dumps({"messages": turns}))
    run("data.tokenize", workspace / "few", [workspace / "vocabulary"], [f'conversations=["{talks}"]', "family=chatml"])
    outcome = run("train.finetune", workspace / "little", [workspace / "model", workspace / "few"], ["length=5000"])
    assert outcome.manifest.metrics["steps"] == 3
    section = json.loads((workspace / "little" / "sections.json").read_text())[0]
    assert "WARNING: 3 steps of training on these texts, in which little is learned" in section["text"]
    numbers = {row[0]: row[1:] for row in section["tables"][0]["rows"]}
    assert numbers["length"] == ["64", "the model's context; 5,000 was set"]
    assert [numbers[name][0] for name in ("sequences", "batch", "steps")] == ["1", "1", "3"]


def test_the_same_run_makes_the_same_bytes_also_with_a_vocabulary_that_is_named(workspace):
    shards, short = [workspace / "tokens", workspace / "held"], [*SMALL, "tokens=4000"]
    one = run("train.pretrain", workspace / "not named", [*shards, workspace / "vocabulary"], short)
    named = run("train.pretrain", workspace / "named", shards, [*short, f"tokenizer={workspace}/vocabulary"])
    weights = [(outcome.folder / "model.safetensors").read_bytes() for outcome in (named, one)]
    assert weights[0] == weights[1]


def test_an_input_lies_where_lmworks_was_called(workspace, tmp_path, monkeypatch):
    """Not beside the recipe, where relative paths of settings begin."""
    monkeypatch.chdir(workspace)
    (tmp_path / "recipe").mkdir()
    inputs = {name: Path(name) for name in ("tokens", "vocabulary")}
    context = StageContext(inputs, tmp_path, tmp_path, base=tmp_path / "recipe")
    tokenizer, _ = find_vocabulary("", context, {"tokens": Path("tokens")})
    assert tokenizer.hash == lmworks.load(workspace / "model").tokenizer.hash


def test_a_stage_trains_on_the_device_of_its_process(workspace, monkeypatch):
    """That is a GPU where there is one (`tests/train/parallel/test_ranks.py`)."""
    monkeypatch.setattr("lmworks.train.fit.device_of_rank", lambda: torch.device("cuda", 0))

    class Met(Exception):  # noqa: N818
        pass

    def meet(*_, device, **__):
        raise Met(str(device))

    monkeypatch.setattr("lmworks.train.fit.Run", meet)
    with pytest.raises(Met, match=r"^cuda:0$"):
        run("train.finetune", workspace / "x", [workspace / "model", workspace / "tokens"], [])


def test_a_text_that_is_trained_on_is_not_held_out(workspace):
    """With another share, the held-out side takes what the training side has."""
    inputs = [workspace / "documents", workspace / "vocabulary"]
    run("data.tokenize", workspace / "more held", inputs, ["held_out=0.5", "part=held_out"])
    with pytest.raises(ValueError, match=r"texts of more held are in tokens.* the same held_out"):
        run("train.pretrain", workspace / "x", [workspace / "tokens", workspace / "more held", inputs[1]], SMALL)


def test_what_is_missing_is_named(workspace):
    with pytest.raises(ValueError, match="no token shards to train on"):
        run("train.pretrain", workspace / "x", [workspace / "held", workspace / "vocabulary"], SMALL)
    with pytest.raises(ValueError, match="expected one vocabulary, that of the shards, and found 0"):
        run("train.pretrain", workspace / "x", [workspace / "tokens"], SMALL)
    with pytest.raises(ConfigError, match="set one budget"):
        run("train.pretrain", workspace / "x", [workspace / "tokens", workspace / "vocabulary"], [])
    with pytest.raises(ConfigError, match="leave one of them out"):
        run("train.pretrain", workspace / "x", [], ["minutes=2", "parameters=100000", "tokens=1000"])
    with pytest.raises(ValueError, match="expected one checkpoint to continue from"):
        run("train.finetune", workspace / "x", [workspace / "tokens"], [])


class TestDial:
    def measure(self, rate):
        return lambda config, layout, numbers: Speed(rate, "as if measured", whole_run=False)

    def test_more_minutes_are_a_larger_model_on_more_tokens(self):
        one, ten = (derive(PretrainConfig(minutes=minutes), 4096, 10**9, self.measure(2e11)) for minutes in (10, 100))
        assert ten.model.embedding.width > one.model.embedding.width
        assert ten.steps * ten.batch > 2 * one.steps * one.batch

    def test_little_data_is_repeated_four_times_and_then_the_model_grows(self):
        much, little = (
            derive(PretrainConfig(minutes=10), 1024, available, self.measure(2e11)) for available in (10**9, 10**6)
        )
        assert 3.6e6 < little.steps * little.batch * 512 < 4.04e6  # a model that takes the minutes for all of it
        assert little.model.embedding.width > much.model.embedding.width

    @for_each("available", [10**9, 10**6])
    @for_each("minutes", [1, 5, 10, 20, 45])
    def test_the_minutes_are_those_that_the_run_takes(self, minutes, available):
        """Also where the shapes of models are far from each other, and most of a step does not grow with the model."""

        def token_seconds(model):
            return 2e-6 + 3e-11 * count_parameters(model)

        def measure(model, layout, numbers):
            flops = train_flops_per_token(model, layout.length)
            return Speed(flops / token_seconds(model), "as if measured", whole_run=False)

        derived = derive(PretrainConfig(minutes=minutes), 4096, available, measure)
        tokens = derived.steps * derived.batch * 512
        took = tokens * token_seconds(derived.model) / 60
        (told,) = (why for what, _, why in derived.reasons if what == "time")
        assert ("more data would use" in told) == (took < 0.9 * minutes)
        if available == 10**6 and minutes > 10:  # a parameter for each token that is seen, and no larger
            assert count_parameters(derived.model) == pytest.approx(4e6, rel=0.15)
            assert tokens == pytest.approx(4e6, rel=0.01)
            return
        all_of_little = available == 10**6 and tokens > 3.95e6
        assert took < 1.03 * minutes and (took > 0.97 * minutes or (all_of_little and took > 0.8 * minutes))

    def test_a_few_seconds_are_spent_on_the_smallest_model(self):
        derived = derive(PretrainConfig(minutes=0.2), 4096, 10**6, self.measure(1e11))
        assert (derived.model.embedding.width, len(derived.model.decoder.blocks)) == (64, 1)
        assert derived.steps >= 1

    def test_a_few_seconds_for_many_tokens_contradict_each_other(self):
        with pytest.raises(ValueError, match=r"tokens=1e\+09 would go into .* fewer tokens"):
            derive(PretrainConfig(minutes=0.2, tokens=10**9), 4096, 10**9, self.measure(1e11))

    @for_each("minutes", [0.5, 1, 2, 3, 4, 6, 8, 12])
    def test_any_number_of_minutes_is_a_run(self, minutes):
        """No hole between the sizes: more minutes are never a smaller run."""
        one, more = (
            derive(PretrainConfig(minutes=m), 2048, 10**6, self.measure(6e10)) for m in (minutes, 1.5 * minutes)
        )
        sizes = [count_parameters(run.model) * run.steps * run.batch for run in (one, more)]
        assert sizes[1] > sizes[0]

    def test_what_is_given_stays(self):
        derived = derive(PretrainConfig(parameters=2_000_000, tokens=10**6, batch=7, rate=0.01), 1024, 10**5)
        assert (derived.batch, derived.rate, derived.steps) == (7, 0.01, ceil(10**6 / 512 / 7))

    def test_it_survives_being_written(self):
        derived = derive(PretrainConfig(parameters=2_000_000), 1024, 10**8)
        assert from_mapping(Derived, json.loads(json.dumps(to_mapping(derived)))) == derived


def test_every_setting_of_the_loop_is_described():
    from lmworks.config import described

    assert "train.guard.action" in described(PretrainConfig)
    assert TrainConfig().precision == "float32"


@for_each(
    ("family", "objective"),
    [
        ("bert", "masked"),
        ("t5", "span-corruption"),
        ("bart", "denoising"),
        ("mixtral", "causal"),
        ("llama", "prefix"),
        ("llama", "multi-token"),
    ],
)
def test_a_recipe_names_family_and_objective(family, objective, workspace, tmp_path):
    """Before and after: the loss of held-out texts falls."""
    words, inputs = workspace / "pieces", [workspace / "documents", workspace / "pieces"]
    if not words.exists():
        special = ["<pad>", "</s>", "<unk>", "<mask>", *(f"<extra_id_{number}>" for number in range(4))]
        run("tokenizer.unigram", words, inputs[:1], ["vocabulary_size=200", f"special_tokens={json.dumps(special)}"])
        run("data.tokenize", workspace / "shards", inputs, ["held_out=0.2"])
        run("data.tokenize", workspace / "kept", inputs, ["held_out=0.2", "part=held_out"])
    settings = [f"family={family}", f"objective.kind={objective}", "parameters=400000", "tokens=8000", "rate=3e-3"]
    settings += ["length=64", "train.precision=float32", "train.log=1"]
    run("train.pretrain", tmp_path / "model", [workspace / "shards", workspace / "kept", words], settings)
    metrics = read_manifest(tmp_path / "model").metrics
    assert metrics["validation_loss"] < read_log(tmp_path / "model" / LOG)[0]["loss"] - 0.5
    assert lmworks.load(tmp_path / "model").model.training is False


def test_an_objective_of_another_kind_of_model_is_refused_before_work():
    with pytest.raises(ConfigError, match=r"family=bert .*set objective\.kind=masked"):
        from_mapping(PretrainConfig, {"tokens": 1000, "family": "bert"})
    with pytest.raises(ConfigError, match="set parameters or tokens"):
        from_mapping(PretrainConfig, {"minutes": 1, "family": "t5", "objective": {"kind": "span-corruption"}})
