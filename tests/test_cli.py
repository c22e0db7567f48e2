"""The command line: help that teaches, errors in one line, and nothing heavy imported before it is needed."""

import subprocess
import sys
from dataclasses import fields

import pytest

from lmworks.config import described
from lmworks.serve.config import ServeConfig
from lmworks.stages import STAGES, resolve

VERBS = ("up", "build", "serve", "ask", "pull", "lineage", "stage", "model", "tokenizer", "vectors", "plan", "log")
VERBS += ("keys", "bench")


def lmworks(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lmworks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_says_what_it_is_for(verb):
    result = lmworks(verb, "--help")
    assert result.returncode == 0
    assert len(result.stdout) > 300
    if verb not in ("pull", "stage", "model", "tokenizer", "vectors", "log", "keys"):
        assert "Example" in result.stdout or "lmworks" in result.stdout


def test_the_overview_lists_every_verb():
    result = lmworks("--help")
    assert result.returncode == 0
    for verb in VERBS:
        assert verb in result.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("build", "nowhere.toml"), "there is no recipe file nowhere.toml"),
        (("build", "assistent"), 'did you mean "assistant"?'),
        (("build", "--set", "index.chunk.taget_tokens=3"), 'did you mean "target_tokens"?'),
        (("ask", "anything"), "no system was built in this folder; run `lmworks up`"),
        (("bench", "--weights", "float8"), "float32, bfloat16, int8, int4, auto"),
        (("bench", "--new", "1"), "2 new tokens"),
        (("pull", "gpt-5"), "all-minilm-l6-v2"),
        (("stage", "data.raed", "--out", "x"), 'did you mean "data.read"?'),
        (("stage", "data.raed", "--help"), 'did you mean "data.read"?'),
        (("stage", "data.read", "--out", "x"), 'sources=["docs"]'),
        (("stage", "data.read", "--set", 'sources=["gone"]', "--out", "x"), "gone: name a folder, a file or a glob"),
        (("stage", "data.read", "--model", "tokenizer=a", "--out", "x"), 'no model in the role "tokenizer"'),
        (("stage", "retrieve.index", "--out", "x"), "--model embedder=NAME"),
        (("stage", "tokenizer.bpe", "--from", "gone", "--out", "x"), "there is no folder gone to read from"),
        (("lineage", "index"), "no system was built in this folder"),
        (("serve",), "no system was built in this folder"),
        (("serve", "--workspace", "nowhere"), "nothing is built in nowhere"),
        (("serve", "--model", "gpt-5"), "all-minilm-l6-v2"),
        (("build", "--set", "serve.prot=9"), 'did you mean "port"?'),
        (("build", "--set", "log.retention_days=-1"), "retention_days must be 0"),
        (("log", "show"), "no system was built in this folder"),
        (("log", "show", "--workspace", "nowhere"), "nowhere"),
    ],
)
def test_an_error_is_one_line_that_names_the_fix(arguments, problem, tmp_path):
    result = lmworks(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_serve_lists_every_setting_with_its_default_on_a_line_of_its_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in lmworks("serve", "--help").stdout.splitlines()]
    for setting in fields(ServeConfig):
        (told,) = [line for line in lines if line.startswith(f"• {setting.name}=")]
        assert len(told.split(": ", 1)[1]) > 10
    assert any(line.startswith("• max_waiting=64: requests that may wait for each model.") for line in lines)


@pytest.mark.parametrize("use", STAGES)
def test_the_help_of_a_stage_lists_what_it_reads_and_every_setting_with_its_default(use, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    told = lmworks("stage", use, "--help").stdout
    stage = STAGES[use]
    settings = described(resolve(stage.config))
    for key, (default, text) in settings.items():
        assert f"• {key}={default}: {text}".replace("`", "") in told, key
    assert bool(settings) == bool(fields(resolve(stage.config)))
    assert told.count("• --from") == len(stage.inputs)
    assert all(f"--model {role}=NAME" in told for role in stage.models)
    assert stage.purpose in told


def test_the_help_of_a_stage_begins_with_its_own_usage_and_groups_settings_by_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line.strip() for line in lmworks("stage", "train.pretrain", "--help").stdout.splitlines()]
    told = [line for line in lines if line]
    assert "lmworks stage train.pretrain --from FOLDER" in told[0] and max(map(len, lines)) <= 100
    assert any(line.startswith("train.pretrain: train a new language model") for line in told[:4])
    group, found = "", {}
    for line in lines:
        if line.endswith(".") and line.startswith("train.") and " " not in line:
            group = line
        elif line.startswith("• ") and "=" in line.split(":")[0]:
            found.setdefault(group, []).append(line[2:].split("=")[0])
    assert list(found)[:2] == ["", "train."] and {"train.parallel.", "train.checkpoint."} < set(found)
    assert "minutes" in found[""] and "train.precision" in found["train."]
    for group, keys in found.items():
        assert all(key.startswith(group) and "." not in key.removeprefix(group) for key in keys), group


def test_importing_lmworks_and_showing_help_load_nothing_heavy():
    script = (
        "import sys, lmworks, lmworks.cli.main, lmworks.stages\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'matplotlib', 'fastapi', 'sqlite3', 'rich.table'}\n"
        "assert not heavy & set(sys.modules), sorted(sys.modules)\n"
        "assert lmworks.__version__\n"
        "try: lmworks.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_stage_runs_alone_from_the_command_line(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\n\nSome words about one thing.\n")
    (tmp_path / "notes" / "two.bin").write_bytes(b"\0\1")
    result = lmworks("stage", "data.read", "--set", 'sources=["notes"]', "--out", "documents", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "documents").iterdir()} >= {"documents", "manifest.json"}
    (shard,) = (tmp_path / "documents" / "documents").iterdir()
    assert "Some words" in shard.read_text()
    assert "two.bin" in (tmp_path / "documents" / "left_out.jsonl").read_text()
    told = " ".join(result.stdout.split())
    assert "Report: documents/report.html" in told and (tmp_path / "documents" / "report.html").is_file()
    assert "1 documents with 35 characters were read; 1 files were left out" in told
    assert "no reader for .bin 1 notes/two.bin" in told and told.endswith(")") and "documents (" in told
    again = lmworks("stage", "data.read", "--set", 'sources=["notes"]', "--out", "documents", cwd=tmp_path)
    assert again.returncode == 2 and "never overwritten" in again.stderr
