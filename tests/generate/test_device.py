"""The device that models run on: chosen by name, refused before anything is loaded, and the only one of a forward."""

import pytest
import torch
from engine_cases import tiny_llama, tiny_mistral

from command_line import lmworks
from kit.tables import for_each
from lmworks.compiled import choose_device
from lmworks.generate import benchmark, runner_choice
from lmworks.generate.engine import Engine
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.module_runner import ModuleRunner
from lmworks.generate.remote_engine import open_engine
from lmworks.generate.runner import Work
from lmworks.ground.written_answer import Engines
from lmworks.kernels import library
from lmworks.serve.config import ServeConfig
from lmworks.serve.served_models import load_models


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had two GPUs, and were not one of several processes."""
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that engines ask for; what runs on a GPU by them, runs on PyTorch's device without memory."""
    names: list[str] = []

    def choose(name: str = "auto", weights: str = "auto") -> torch.device:
        names.append(name)
        return torch.device("cpu" if choose_device(name, weights).type == "cpu" else "meta")

    monkeypatch.setattr(runner_choice, "choose_device", choose)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama().save(tmp_path_factory.mktemp("device") / "tiny"))


@for_each(
    ("name", "weights", "device"),
    [
        ("auto", "auto", "cuda:0"),
        ("auto", "float32", "cuda:0"),
        ("auto", "int8", "cpu"),
        ("cuda", "auto", "cuda:0"),
        ("cuda:1", "bfloat16", "cuda:1"),
        ("cpu", "int4", "cpu"),
    ],
)
def test_a_gpu_is_taken_unless_weights_are_integers_or_another_device_is_named(name, weights, device, gpus) -> None:
    assert choose_device(name, weights) == torch.device(device)


@for_each(("name", "weights"), [("cuda:2", "auto"), ("gpu", "auto"), ("cuda", "int4"), ("cuda:1", "int8")])
def test_a_device_that_is_not_there_or_not_for_these_weights_is_refused(name, weights, gpus) -> None:
    with pytest.raises(ValueError, match=name):
        choose_device(name, weights)


@for_each("make", [tiny_llama, tiny_mistral])
@for_each("cache_dtype", [None, "int8"])
def test_a_forward_makes_and_mixes_in_no_tensor_of_another_device(make, cache_dtype, gpus, asked) -> None:
    checkpoint = make()
    engine = Engine(checkpoint, 2, 64, cache_dtype=cache_dtype, device="auto")
    runner, cache = engine.batcher.runner, engine.batcher.cache
    assert isinstance(runner, ModuleRunner) and runner.device.type == "meta"
    sequences = [engine.batcher.open(ids, "") for ids in ((1, 2, 3), (4, 5))]
    for ids in ([1, 2, 3], [7]):  # a prompt, and then both at once
        works = [Work(sequence, ids, 1) for sequence in sequences]
        for sequence in sequences:
            cache.reserve(sequence, len(ids))
        rows, hidden = runner.forward(works, hidden=True)
        assert hidden is not None
        assert {tensor.device.type for tensor in (*rows, hidden)} == {"meta"}
        for sequence in sequences:
            cache.commit(sequence, ids)
    assert checkpoint.model.tokens.device.type == "cpu" and checkpoint.fingerprint  # which stays where it was


def test_without_a_device_or_with_integers_an_engine_is_where_its_checkpoint_is(gpus, asked) -> None:
    kind = FusedRunner if library.load() is not None else ModuleRunner
    for engine in (Engine(tiny_llama(), 1), Engine(tiny_llama(), 1, weights="int4", device="auto")):
        assert isinstance(engine.batcher.runner, kind) and engine.batcher.runner.device.type == "cpu"
    with pytest.raises(ValueError, match="device=cpu"):
        Engine(tiny_llama(), 1, weights="int8", device="cuda")


def test_what_serves_writes_judges_and_measures_asks_for_a_device(folder, asked, monkeypatch) -> None:
    loaded = load_models({"tiny": folder}, ServeConfig(device="cpu"))
    loaded.languages["tiny"].close()
    for engine in (open_engine(folder), Engines()[folder]):
        assert engine.capabilities.generate
    settings = benchmark.Settings(folder, (benchmark.Workload(20, 1, 2),), 1, 1, "cpu")
    benchmark.measure_format(settings, "float32", 0.0)
    assert asked == ["cpu", "auto", "auto", "cpu"]


@for_each("verb", [("serve",), ("bench",), ("eval", "run")])
def test_a_device_that_is_not_there_is_refused_before_a_model_is_loaded(verb, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for module in ("adapt.adapter", "serve.served_models", "generate.benchmark"):
        monkeypatch.setattr(f"lmworks.{module}.load", None)
    task = 'name = "t"\npurpose = "p"\nsource = "s"\nfiles = ["r.jsonl"]\nrequest = "generation"\nprompt = "{q}"\n'
    (tmp_path / "t.toml").write_text(task + 'id = "id"\nmetrics = ["exact-match"]\n', "utf-8")
    (tmp_path / "r.jsonl").write_text('{"id": "1", "q": "one", "answer": "two"}\n', "utf-8")
    more = ("--suite", "t.toml", "--data", ".") if verb[-1] == "run" else ()
    result = lmworks(*verb, folder, *more, "--device", "cuda:1")
    assert result.returncode != 0 and "no device 'cuda:1'" in result.stderr
