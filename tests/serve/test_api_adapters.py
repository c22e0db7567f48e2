"""LoRA adapters served as models, held against engines whose weights have the adapter merged into them."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmworks.adapt import Lora, LoraConfig, initialise_lora, merge, write_lora
from lmworks.cli import serve_command
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.monitor.token_replay import replay
from lmworks.records import Message
from lmworks.serve import server
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service

NAMES = ("tiny", "formal", "terse")
PROMPT = "the thing is in there"
# The adapter beside float32 weights and the adapter inside of them add in another order.
TOLERANCE = 1e-3


def random_lora(config: ModelConfig, seed: int, lora_config: LoraConfig) -> Lora:
    """With a B that is not zero, so large that greedy completions are others."""
    generator = torch.Generator().manual_seed(seed)
    fresh = initialise_lora(config, lora_config, generator).changes
    return Lora({name: c._replace(b=0.3 * torch.randn(c.b.shape, generator=generator)) for name, c in fresh.items()})


@pytest.fixture(scope="module")
def loras(tiny: Checkpoint) -> dict[str, Lora]:
    """Of different ranks and layers."""
    return {
        "formal": random_lora(tiny.config, 1, LoraConfig(r=4)),
        "terse": random_lora(tiny.config, 2, LoraConfig(r=2, target_modules=("query", "value"))),
    }


@pytest.fixture(scope="module")
def folders(tiny: Checkpoint, loras: dict[str, Lora], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: str(write_lora(root / name, lora, tiny.config, tiny.published)) for name, lora in loras.items()}


@pytest.fixture(scope="module")
def engines(tiny: Checkpoint, loras: dict[str, Lora]) -> dict[str, Engine]:
    """The oracle: an engine for each name, of the base and of merged models; they know nothing of adapters."""
    models = {"tiny": tiny.model, **{name: merge(tiny.model, lora) for name, lora in loras.items()}}
    return {name: Engine(tiny.with_model(model), weights="float32") for name, model in models.items()}


@pytest.fixture(scope="module")
def served(start, folders: dict[str, str]):
    with start(adapters=folders, weights="float32") as running:
        yield running


def greedy(engine: Engine, *, messages: str = "", prompt: str = "", max_tokens: int = 16):
    sampling = SamplingParameters(max_tokens=max_tokens, ignore_eos=True)
    if messages:
        return engine.generate([Request(messages=(Message("user", messages),), sampling=sampling)])[0]
    ids = tuple(engine.checkpoint.tokenizer.encode(prompt))
    return engine.generate([Request(prompt_ids=ids, sampling=sampling)])[0]


def chat(running, name: str, question: str, **options: Any):
    return running.client().chat.completions.create(
        model=name, messages=[{"role": "user", "content": question}], temperature=0, extra_body={"ignore_eos": True},
        **{"max_tokens": 16, **options},
    )  # fmt: skip


def test_adapters_are_listed_as_models_of_their_own(served) -> None:
    models = {model.id: model for model in served.client().models.list()}
    assert set(models) == set(NAMES)
    assert len({model.fingerprint for model in models.values()}) == 3
    assert {(model.kind, model.context_length) for model in models.values()} == {("language", 512)}
    assert served.client().models.retrieve("terse").fingerprint == models["terse"].fingerprint


def test_the_oracles_differ(engines) -> None:
    """Else the tests below would pass for a server that forgets the adapter."""
    assert len({greedy(engine, messages=PROMPT).ids for engine in engines.values()}) == 3
    assert len({greedy(engine, prompt=PROMPT).ids for engine in engines.values()}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_chat_is_the_merged_models(served, engines, name) -> None:
    wanted = greedy(engines[name], messages=PROMPT)
    answer = chat(served, name, PROMPT, logprobs=True)
    assert (answer.model, answer.choices[0].message.content) == (name, wanted.text)
    told = [token.logprob for token in answer.choices[0].logprobs.content]
    assert told == pytest.approx(wanted.log_probabilities, abs=TOLERANCE)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chat(served, name, PROMPT, stream=True)]
    assert "".join(pieces) == wanted.text


@pytest.mark.parametrize("name", NAMES)
def test_a_completion_is_the_merged_models(served, engines, name) -> None:
    wanted = greedy(engines[name], prompt=PROMPT)
    answer = served.client().completions.create(
        model=name, prompt=PROMPT, temperature=0, max_tokens=16, logprobs=1, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].text == wanted.text
    assert answer.choices[0].logprobs.token_logprobs == pytest.approx(wanted.log_probabilities, abs=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompts_scores_are_the_merged_models(served, engines, name) -> None:
    ids = engines[name].checkpoint.tokenizer.encode(PROMPT)
    (wanted,) = engines[name].score([ids[:1]], [ids[1:]])
    answer = served.client().completions.create(model=name, prompt=PROMPT, echo=True, max_tokens=0, logprobs=2)
    assert answer.choices[0].logprobs.token_logprobs[1:] == pytest.approx(wanted.log_probabilities, abs=TOLERANCE)
    body = {"model": name, "text_1": PROMPT, "text_2": [" on", "ward"]}
    told = served.http().post("/v1/score", json=body).json()["data"]
    encode = engines[name].checkpoint.tokenizer.encode
    scores = engines[name].score([ids, ids], [encode(" on"), encode("ward")])
    assert [one["score"] for one in told] == pytest.approx([one.mean for one in scores], abs=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_response_is_the_merged_models(served, engines, name) -> None:
    wanted = greedy(engines[name], messages=PROMPT)
    answer = served.client().responses.create(
        model=name, input=PROMPT, temperature=0, max_output_tokens=16, extra_body={"ignore_eos": True}
    )
    assert answer.output_text == wanted.text


def test_base_and_adapters_share_a_batch(served, engines, monkeypatch) -> None:
    runner = served.service.language("tiny")._engine.batcher.runner
    forward, together = runner.forward, set()

    def observed(works, *arguments):
        together.add(frozenset(work.sequence.adapter for work in works))
        return forward(works, *arguments)

    monkeypatch.setattr(runner, "forward", observed)
    asked = [(name, f"{PROMPT} {number}") for number in range(2) for name in NAMES]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda pair: chat(served, *pair, max_tokens=60), asked))
    assert frozenset((-1, 0, 1)) in together
    for (name, question), answer in zip(asked, answers, strict=True):
        assert answer.choices[0].message.content == greedy(engines[name], messages=question, max_tokens=60).text


def test_the_log_names_the_adapter_and_replay_refuses_it(served, tiny, loras) -> None:
    reader = served.service.log.reader
    made = {name: reader.get(chat(served, name, PROMPT).lmworks["interaction"]) for name in NAMES}
    for name, lora in loras.items():
        assert made[name].route == name and made[name].model == tiny.fingerprint
        assert made[name].lineage == {f"model:{name}": tiny.fingerprint, f"adapter:{name}": lora.fingerprint}
        with pytest.raises(ValueError, match=rf"made with the adapter '{name}': only what the model made alone"):
            replay(made[name], Engine(tiny, weights="float32"), tiny)
    assert not any(key.startswith("adapter:") for key in made["tiny"].lineage)
    assert replay(made["tiny"], Engine(tiny, weights="float32"), tiny).same


def test_an_adapter_has_the_occupancy_of_its_model(served) -> None:
    assert served.service.occupancy("formal") == served.service.occupancy("tiny")
    text = served.http().get("/metrics").text
    assert 'lmworks:kv_cache_usage_perc{model_name="formal"}' in text


# ---------------------------------------------------------------------------------------------------------------------
# What is refused at start


@pytest.fixture(scope="module")
def wide_folder(tiny_tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another width than `tiny`."""
    config = llama(tiny_tokenizer.vocabulary_size, 64, layers=2, heads=4, kv_heads=2, hidden=64, context_length=64)
    weights = initialise(Transformer(config), seed=1).state_dict()
    return assemble(config, weights, tiny_tokenizer, source="wide").save(tmp_path_factory.mktemp("models") / "wide")


def threads() -> int:
    """Engines at work in this process."""
    return sum(thread.name == "lmworks-engine" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("models", "name", "problem"),
    [
        (("wide",), "formal", r"'formal' in .* must fit exactly one .*; wide: .* is of another base"),
        (("tiny", "twin"), "formal", r"it fits tiny, twin: serve only one of them"),
        (("tiny",), "tiny", r"'tiny' has the name of a model that is served: give it another one"),
        (("tiny",), "assistant", r"'assistant' has the name of a model"),
        (("tiny",), "", r"an adapter needs a name"),
    ],
)
def test_what_cannot_be_served_is_refused_at_start(
    models, name, problem, tiny_folder, wide_folder, folders, tmp_path
) -> None:
    paths = {"tiny": str(tiny_folder), "twin": str(tiny_folder), "wide": str(wide_folder)}
    config = ServeConfig(adapters={name: folders["formal"]})
    before = threads()
    service = Service(tmp_path, config, {one: paths[one] for one in models})
    try:
        with pytest.raises(ValueError, match=problem):
            service.load()
        assert service.state == "failed" and service.failure
        assert threads() == before
    finally:
        service.close()


def test_a_folder_that_is_no_adapter_is_refused_at_start(tiny_folder, tmp_path) -> None:
    service = Service(tmp_path, ServeConfig(adapters={"formal": str(tiny_folder)}), {"tiny": str(tiny_folder)})
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json, so it is not a PEFT adapter"):
        service.load()
    service.close()


@pytest.mark.parametrize("wrong", ["missing", "empty", "damaged", "name", "base"])
def test_it_is_refused_before_anything_is_loaded_or_announced(
    wrong, tiny_folder, wide_folder, folders, tmp_path
) -> None:
    folder = tmp_path / "adapter"
    if wrong == "damaged":
        shutil.copytree(folders["formal"], folder)
        tensors = folder / "adapter_model.safetensors"
        tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\1\2\3")
    elif wrong != "missing":
        folder.mkdir() if wrong == "empty" else shutil.copytree(folders["formal"], folder)
    name = "tiny" if wrong == "name" else "formal"
    models = {"wide": str(wide_folder)} if wrong == "base" else {"tiny": str(tiny_folder)}
    problem = {
        "missing": "there is no such folder",
        "empty": "has no adapter_config.json",
        "damaged": "is damaged",
        "name": "has the name of a model",
        "base": "is of another base",
    }
    told: list[str] = []
    config = ServeConfig(port=0, adapters={name: str(folder)})
    with pytest.raises((FileNotFoundError, ValueError), match=problem[wrong]):
        server.run(tmp_path / "workspace", config, models, told.append)
    assert told == [] and not (tmp_path / "workspace").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def serve_with(monkeypatch, tmp_path: Path, *adapters: str) -> ServeConfig:
    """What `lmworks serve --adapter …` would serve."""
    taken: list[ServeConfig] = []
    monkeypatch.setattr(serve_command, "serve_workspace", lambda folder, config, models: taken.append(config))
    serve_command.serve(workspace=tmp_path, models=[str(tmp_path)], adapters=list(adapters), port=0)
    return taken[0]


def test_the_command_line_names_folders(monkeypatch, tmp_path) -> None:
    config = serve_with(monkeypatch, tmp_path, "formal=adapters/a=b", "terse=/elsewhere")
    assert config.adapters == {"formal": "adapters/a=b", "terse": "/elsewhere"}
    assert replace(config, adapters={}) == ServeConfig(port=0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["formal"], r"--adapter is NAME=FOLDER, got 'formal'"),
        (["formal="], r"got 'formal='"),
        (["=folder"], r"got '=folder'"),
        (["formal=a", "formal=b"], r"--adapter gives 'formal' twice"),
    ],
)
def test_the_command_line_refuses_what_names_no_folder(monkeypatch, tmp_path, given, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        serve_with(monkeypatch, tmp_path, *given)
