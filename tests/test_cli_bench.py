"""The verb `bench`, on a model so small that it takes seconds."""

import json

import pytest

from lmworks.model.checkpoint import assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from test_cli import lmworks


@pytest.fixture(scope="module")
def tiny_folder(tiny_tokenizer, tmp_path_factory) -> str:
    config = llama(267, width=32, layers=2, heads=2, kv_heads=1, hidden=64, context_length=64, tied=True)
    checkpoint = assemble(config, initialise(Transformer(config), seed=5).state_dict(), tiny_tokenizer, source="tiny")
    return str(checkpoint.save(tmp_path_factory.mktemp("bench") / "tiny"))


ARGUMENTS = ("--prompt", "24", "--new", "4", "--rounds", "2", "--threads", "1")


def test_prints_what_was_measured_as_json(tiny_folder):
    result = lmworks("bench", tiny_folder, *ARGUMENTS, "--weights", "float32", "--weights", "int8", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["limits"]["bandwidth"] > 0 and told["limits"]["int8"] > 0
    assert [workload["sequences"] for workload in told["settings"]["workloads"]] == [1, 8, 16]
    assert [one["weights"] for one in told["formats"]] == ["float32", "int8"]
    for one in told["formats"]:
        assert [len(speeds) for speeds in one["speeds"]] == [2, 2, 2]  # rounds of each workload
    large, small = (one["sizes"]["weights"] for one in told["formats"])
    assert large > 2 * small


def test_prints_a_table_with_shares_of_the_limits(tiny_folder):
    result = lmworks("bench", tiny_folder, *ARGUMENTS, "--weights", "bfloat16")
    assert result.returncode == 0, result.stderr
    for text in ("GB/s read", "prefill 24", "1 × at 24", "8 × at 32", "16 × at 32", "bfloat16", "first token", "read "):
        assert text in result.stdout
