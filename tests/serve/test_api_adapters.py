"""LoRA adapters served as models, held against engines whose weights have the adapter merged into them."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from kit.tables import for_each
from lmworks.adapt import Lora, LoraConfig, initialise_lora, merge, write_lora
from lmworks.cli import serve_command
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
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


@pytest.fixture(scope="module")
def loras(tiny: Checkpoint) -> dict[str, Lora]:
    """Of different ranks and layers, with a B so large that greedy completions are others."""
    configs = {"formal": LoraConfig(r=4), "terse": LoraConfig(r=2, target_modules=("query", "value"))}
    made = {}
    for seed, (name, config) in enumerate(configs.items(), start=1):
        generator = torch.Generator().manual_seed(seed)
        fresh = initialise_lora(tiny.config, config, generator).changes
        noise = {layer: 0.3 * torch.randn(change.b.shape, generator=generator) for layer, change in fresh.items()}
        made[name] = Lora({layer: change._replace(b=noise[layer]) for layer, change in fresh.items()})
    return made


@pytest.fixture(scope="module")
def folders(tiny: Checkpoint, loras: dict[str, Lora], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: str(write_lora(root / name, lora, tiny.config, tiny.published)) for name, lora in loras.items()}


@pytest.fixture(scope="module")
def engines(tiny: Checkpoint, loras: dict[str, Lora]) -> dict[str, Engine]:
    """The oracle: an engine for each name, of the base and of merged models; they know nothing of adapters."""
    models = {"tiny": tiny.model, **{name: merge(tiny.model, lora) for name, lora in loras.items()}}
    made = {name: Engine(tiny.with_model(model), weights="float32") for name, model in models.items()}
    assert len({greedy(engine, prompt=PROMPT).ids for engine in made.values()}) == 3
    return made


@pytest.fixture(scope="module")
def adapted(start, folders: dict[str, str]):
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


def test_adapters_are_listed_as_models_of_their_own(adapted) -> None:
    models = {model.id: model for model in adapted.client().models.list()}
    assert set(models) == set(NAMES)
    assert len({model.fingerprint for model in models.values()}) == 3
    assert {(model.kind, model.context_length) for model in models.values()} == {("language", 512)}
    assert adapted.service.models.occupancy("formal") == adapted.service.models.occupancy("tiny")
    assert 'lmworks:kv_cache_usage_perc{model_name="formal"}' in adapted.http().get("/metrics").text


@for_each("name", NAMES)
def test_every_api_answers_as_the_merged_model(adapted, engines, name) -> None:
    engine, client, encode = engines[name], adapted.client(), engines[name].checkpoint.tokenizer.encode
    wanted = greedy(engine, messages=PROMPT)
    answer = chat(adapted, name, PROMPT, logprobs=True)
    assert (answer.model, answer.choices[0].message.content) == (name, wanted.text)
    values = [token.logprob for token in answer.choices[0].logprobs.content]
    assert values == pytest.approx(wanted.log_probabilities, abs=TOLERANCE)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chat(adapted, name, PROMPT, stream=True)]
    assert "".join(pieces) == wanted.text
    response = client.responses.create(
        model=name, input=PROMPT, temperature=0, max_output_tokens=16, extra_body={"ignore_eos": True}
    )
    assert response.output_text == wanted.text
    completion = client.completions.create(
        model=name, prompt=PROMPT, temperature=0, max_tokens=16, extra_body={"ignore_eos": True}
    )
    assert completion.choices[0].text == greedy(engine, prompt=PROMPT).text
    ids = encode(PROMPT)
    (score,) = engine.score([ids[:1]], [ids[1:]])
    echo = client.completions.create(model=name, prompt=PROMPT, echo=True, max_tokens=0, logprobs=2)
    assert echo.choices[0].logprobs.token_logprobs[1:] == pytest.approx(score.log_probabilities, abs=TOLERANCE)
    body = {"model": name, "text_1": PROMPT, "text_2": [" on", "ward"]}
    rows = adapted.http().post("/v1/score", json=body).json()["data"]
    scores = engine.score([ids, ids], [encode(" on"), encode("ward")])
    assert [row["score"] for row in rows] == pytest.approx([one.mean for one in scores], abs=TOLERANCE)


def test_base_and_adapters_share_a_batch(adapted, engines, monkeypatch) -> None:
    runner = adapted.service.models.language("tiny")._engine.batcher.runner
    forward, together = runner.forward, set()

    def observed(works, *arguments):
        together.add(frozenset(work.sequence.adapter for work in works))
        return forward(works, *arguments)

    monkeypatch.setattr(runner, "forward", observed)
    asked = [(name, f"{PROMPT} {number}") for number in range(2) for name in NAMES]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda pair: chat(adapted, *pair, max_tokens=60), asked))
    assert frozenset((-1, 0, 1)) in together
    for (name, question), answer in zip(asked, answers, strict=True):
        assert answer.choices[0].message.content == greedy(engines[name], messages=question, max_tokens=60).text


def test_the_log_names_the_adapter_and_replay_refuses_it(adapted, tiny, loras) -> None:
    made = {name: adapted.interaction(chat(adapted, name, PROMPT)) for name in NAMES}
    for name, lora in loras.items():
        assert made[name].route == name and made[name].model == tiny.fingerprint
        assert made[name].lineage == {f"model:{name}": tiny.fingerprint, f"adapter:{name}": lora.fingerprint}
        with pytest.raises(ValueError, match=name):
            replay(made[name], Engine(tiny, weights="float32"), tiny)
    assert not any(key.startswith("adapter:") for key in made["tiny"].lineage)
    assert replay(made["tiny"], Engine(tiny, weights="float32"), tiny).same


@pytest.fixture(scope="module")
def sources(tiny_tokenizer, tiny_folder, folders, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders by name: models, of which `wide` is of another width, and what is an adapter or is none."""
    root = tmp_path_factory.mktemp("sources")
    config = llama(tiny_tokenizer.vocabulary_size, 64, layers=2, heads=4, kv_heads=2, hidden=64, context_length=64)
    weights = initialise(Transformer(config), seed=1).state_dict()
    assemble(config, weights, tiny_tokenizer, source="wide").save(root / "wide")
    (root / "empty").mkdir()
    shutil.copytree(folders["formal"], root / "damaged")
    tensors = root / "damaged" / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\1\2\3")
    paths = {name: str(root / name) for name in ("wide", "missing", "empty", "damaged")}
    return {**paths, "tiny": str(tiny_folder), "twin": str(tiny_folder), "formal": folders["formal"]}


@for_each(
    ("models", "name", "adapter", "problem"),
    [
        (("wide",), "formal", "formal", "wide"),
        (("tiny", "twin"), "formal", "formal", "tiny, twin"),
        (("tiny",), "tiny", "formal", "'tiny'"),
        (("tiny",), "assistant", "formal", "'assistant'"),
        (("tiny",), "formal", "missing", "missing"),
        (("tiny",), "formal", "empty", "adapter_config.json"),
        (("tiny",), "formal", "tiny", "adapter_config.json"),
        (("tiny",), "formal", "damaged", "damaged"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_loaded_or_announced(
    models, name, adapter, problem, sources, tmp_path
) -> None:
    announced: list[str] = []
    config, paths = ServeConfig(port=0, adapters={name: sources[adapter]}), {one: sources[one] for one in models}
    workspace = tmp_path / f"{'-'.join(models)}-{name}-{adapter}"
    with pytest.raises((FileNotFoundError, ValueError), match=problem):
        server.run(workspace, config, paths, announced.append)
    assert announced == [] and not workspace.exists()
    engines = [thread.name for thread in threading.enumerate()].count("lmworks-engine")
    service = Service(workspace, config, paths)
    with pytest.raises((FileNotFoundError, ValueError), match=problem):
        service.load()
    assert service.state == "failed" and service.failure
    assert [thread.name for thread in threading.enumerate()].count("lmworks-engine") == engines
    service.close()


def test_the_command_line_names_folders_and_refuses_what_names_none(monkeypatch, tmp_path) -> None:
    configs: list[ServeConfig] = []
    monkeypatch.setattr(serve_command, "serve_workspace", lambda folder, config, models: configs.append(config))

    def serve(*adapters: str) -> None:
        serve_command.serve(workspace=tmp_path, models=[str(tmp_path)], adapters=list(adapters), settings=["port=0"])

    serve("formal=adapters/a=b", "terse=/elsewhere")
    assert configs[0].adapters == {"formal": "adapters/a=b", "terse": "/elsewhere"}
    assert replace(configs[0], adapters={}) == ServeConfig(port=0)
    for wrong in (["formal"], ["formal="], ["=folder"], ["formal=a", "formal=b"]):
        with pytest.raises(ValueError, match="--adapter"):
            serve(*wrong)
