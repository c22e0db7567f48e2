"""The verb `bench`, on a model so small that it takes seconds."""

import json

import pytest

from command_line import lmworks
from lmworks.generate import benchmark
from lmworks.generate.benchmark import Limits
from lmworks.model.checkpoint import assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer


@pytest.fixture(scope="module")
def tiny_folder(tiny_tokenizer, tmp_path_factory) -> str:
    config = llama(267, width=32, layers=2, heads=2, kv_heads=1, hidden=64, context_length=64, tied=True)
    checkpoint = assemble(config, initialise(Transformer(config), seed=5).state_dict(), tiny_tokenizer, source="tiny")
    return str(checkpoint.save(tmp_path_factory.mktemp("bench") / "tiny"))


@pytest.fixture(autouse=True)
def measured_here(monkeypatch):
    """In this process, and the machine's limits not at all: tests/generate/test_benchmark.py does both."""
    limits = Limits(1e10, 1e12, "kernels on 1 thread: measured elsewhere")
    monkeypatch.setattr(benchmark, "measure_limits", lambda: limits)
    monkeypatch.setattr(benchmark, "in_a_process", lambda _, function, *arguments: function(*arguments))


ARGUMENTS = ("--prompt", "24", "--new", "4", "--rounds", "2", "--threads", "1")


def test_prints_what_was_measured_as_json(tiny_folder):
    result = lmworks("bench", tiny_folder, *ARGUMENTS, "--weights", "float32", "--weights", "int8", "--json")
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["limits"]["bandwidth"] > 0 and printed["limits"]["operations"] > 0
    assert [workload["sequences"] for workload in printed["settings"]["workloads"]] == [1, 8, 16]
    assert [one["weights"] for one in printed["formats"]] == ["float32", "int8"]
    for one in printed["formats"]:
        assert [len(speeds) for speeds in one["speeds"]] == [2, 2, 2]  # rounds of each workload
    large, small = (one["sizes"]["weights"] for one in printed["formats"])
    assert large > 2 * small


def test_prints_a_table_with_shares_of_the_limits_in_80_columns(tiny_folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = lmworks("bench", tiny_folder, *ARGUMENTS, "--weights", "bfloat16")
    assert result.returncode == 0, result.stderr
    for text in ("GB/s read", "GOP/s multiplied", "kernels on 1 thread:", "bfloat16", "first token", "multiplied 0%"):
        assert text in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("1 × 24" in line or "16 × 32" in line for line in lines) >= 1
