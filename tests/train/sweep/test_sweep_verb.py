"""The verb, on text: what is planned is trained, and what was finished is not trained again after a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from math import log
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.build import run_alone
from lmworks.cli.main import app
from lmworks.train.run_log import read_log

WORDS = ["the", "cat", "dog", "sees", "hears", "a", "small", "red", "house", "and", "then", "sleeps"]
SETTINGS = ["length=16", "sizes=2", "lengths=4", "train.precision=float32", "train.log=20", "train.checkpoint.steps=50"]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    generator = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(120):
        sentences = (" ".join(generator.choices(WORDS, k=generator.randint(4, 9))) + "." for _ in range(60))
        (folder / "texts" / f"{number}.txt").write_text("\n".join(sentences))
    run_alone("corpus.read", folder / "documents", [], [], [f'sources=["{folder}/texts"]'])
    special = 'special_tokens=["<|endoftext|>"]'
    run_alone("tokenizer.bpe", folder / "words", [folder / "documents"], [], ["vocabulary_size=300", special])
    inputs = [folder / "documents", folder / "words"]
    run_alone("data.tokenize", folder / "shards", inputs, [], ["held_out=0.2"])
    run_alone("data.tokenize", folder / "held", inputs, [], ["held_out=0.2", "part=held_out"])
    return folder


def arguments(text: Path, out: str, *more: str) -> list[str]:
    found = ["sweep", "--flops", "8e10", "--out", str(text / out), *more]
    for name in ("shards", "held", "words"):
        found += ["--from", str(text / name)]
    for setting in SETTINGS:
        found += ["--set", setting]
    return found


def test_a_plan_is_printed_and_nothing_is_made(text, monkeypatch):
    def busy(*_):
        raise ValueError("this machine is not measured in tests")

    monkeypatch.setattr("lmworks.train.sweep.stage.calibrate", busy)
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, arguments(text, "out", "--plan"), catch_exceptions=False)
    assert result.exit_code == 0
    assert all(f"N{size}-D{length}" in result.output for size in (1, 2) for length in (1, 2, 3, 4))
    assert not (text / "out").exists() and not (text / ".out.work").exists()


def test_an_input_that_is_not_there_is_named_before_anything_is_measured(text):
    gone = text / "gone"
    result = CliRunner().invoke(app, [*arguments(text, "out", "--plan"), "--from", str(gone)])
    assert isinstance(result.exception, FileNotFoundError)
    assert str(result.exception) == f"there is no folder {gone} to read from"
    assert "measuring" not in result.output


@pytest.mark.slow
def test_a_killed_sweep_ends_as_an_undisturbed_one(text):
    """Every held-out loss the same, bit by bit, and so the content of the artefact."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "lmworks", *arguments(text, out)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    assert start("one").wait() == 0
    process = start("two")
    work = text / ".two.work"
    while process.poll() is None and not (plan := next(work.glob("*/ladder.json"), None)):
        time.sleep(0.01)
    third = json.loads(plan.read_text())["rungs"][2]
    lines = plan.parent / "runs" / f"N{third['size'] + 1}-D{third['span'] + 1}.work" / "run" / "log.jsonl"
    while process.poll() is None and not (lines.exists() and any(line["step"] > 100 for line in read_log(lines))):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start("two").wait() == 0
    manifests = [json.loads((text / out / "manifest.json").read_text()) for out in ("one", "two")]
    assert manifests[0]["content_hash"] == manifests[1]["content_hash"]
    runs = json.loads((text / "two" / "runs.json").read_text())["runs"]
    assert [run["seconds"] is None for run in runs] == [False, False, True, *[False] * 5]
    by_tokens = sorted((run["tokens"], run["loss"]) for run in runs if run["name"].startswith("N1"))
    # Words at random, of which little more can be learnt than which there are: all runs know that, longer ones better.
    assert log(300) / 2 > by_tokens[0][1] > by_tokens[-1][1]
