"""The verbs `log` and `keys`, on a log that was recorded in the test."""

import json
import time
from dataclasses import replace

import pyarrow.parquet
import pytest

from command_line import lmworks
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import load
from lmworks.monitor.log import Log
from lmworks.records import Interaction, Message
from lmworks.serve.interaction_record import Turn, completion_interaction


@pytest.fixture
def workspace(tmp_path):
    log = Log(tmp_path / "log.sqlite")
    now = time.time()
    for number, (age, question) in enumerate([(0, "How are\x1b[31m you?"), (3600, "Who?"), (9 * 86400, "When?")]):
        messages = (Message("user", question),)
        log.record(Interaction(f"{number:016x}", now - age, messages, f"answer {number}", route="tiny")).result()
    log.close()
    return tmp_path


def run(workspace, *arguments):
    return lmworks("log", *arguments, "--workspace", str(workspace))


def test_show_lists_the_newest_first_and_filters(workspace):
    result = run(workspace, "show")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [f"{n:016x}" for n in range(3)]
    assert "\x1b[31m" not in result.stdout
    filtered = run(workspace, "show", "--filter", "since:2h")
    assert "Who?" in filtered.stdout and "When?" not in filtered.stdout
    nothing = run(workspace, "show", "--filter", "route:other").stdout.split()
    assert nothing and "question" not in nothing  # not the bare head of a table
    wrong = run(workspace, "show", "--filter", "rout:tiny")
    assert wrong.returncode == 2 and "route" in wrong.stderr


def test_show_prints_one_as_json_also_by_its_api_name(workspace):
    result = run(workspace, "show", "chatcmpl-" + "0" * 15 + "1")
    assert json.loads(result.stdout)["messages"][0]["content"] == "Who?"
    unknown = run(workspace, "show", "f" * 16)
    assert unknown.returncode == 2 and "holds no interaction" in unknown.stderr


def test_export_writes_a_file_once(workspace, tmp_path):
    target = tmp_path / "all.parquet"
    assert run(workspace, "export", str(target)).returncode == 0
    assert sorted(pyarrow.parquet.read_table(target)["id"].to_pylist()) == [f"{n:016x}" for n in range(3)]
    again = run(workspace, "export", str(target))
    assert again.returncode == 2 and "exists" in again.stderr
    spans = tmp_path / "spans.json"
    assert run(workspace, "export", str(spans), "--filter", "since:2h").returncode == 0
    assert "Who?" not in spans.read_text()


def test_prune_deletes_what_is_old(workspace):
    assert "1 interaction deleted" in run(workspace, "prune", "7").stdout
    assert "When?" not in run(workspace, "show").stdout
    assert run(workspace, "prune", "-1").returncode == 2


def test_a_workspace_without_a_log_is_left_as_it_is(tmp_path):
    for verb in (("show",), ("prune", "3"), ("export", "x.parquet"), ("replay", "0" * 16)):
        result = run(tmp_path, *verb)
        assert result.returncode == 2 and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_replay_makes_the_same_tokens_and_says_what_changed(workspace, tiny_folder):
    checkpoint = load(tiny_folder)
    sampling = SamplingParameters(max_tokens=12, temperature=0.9, top_p=0.95, seed=11)
    messages = (Message("user", "Tell me about rivers."),)
    (completion,) = Engine(checkpoint).generate([Request(messages=messages, sampling=sampling)])
    turn = Turn(str(tiny_folder), messages, sampling=sampling)
    interaction = completion_interaction(turn, "a" * 16, time.time(), completion, checkpoint, checkpoint.fingerprint)
    other = replace(interaction, id="b" * 16, token_ids=interaction.token_ids[::-1])
    with Log(workspace / "log.sqlite") as log:
        for each in (interaction, other):
            log.record(each).result()
    result = run(workspace, "replay", "a" * 16)
    assert result.returncode == 0 and result.stdout.startswith("same: all "), result.stderr + result.stdout
    result = run(workspace, "replay", "b" * 16)
    assert result.returncode == 1 and result.stdout.startswith("different: ")


def test_keys_are_shown_once_and_revoked(tmp_path):
    file = str(tmp_path / "keys.json")
    made = lmworks("keys", "add", "laptop", "--keys", file)
    key = made.stdout.strip()
    assert key.startswith("lmw-") and key not in (tmp_path / "keys.json").read_text()
    assert "laptop" in lmworks("keys", "list", "--keys", file).stdout
    assert lmworks("keys", "add", "laptop", "--keys", file).returncode == 2
    assert lmworks("keys", "revoke", "laptop", "--keys", file).returncode == 0
    assert "laptop" not in lmworks("keys", "list", "--keys", file).stdout
