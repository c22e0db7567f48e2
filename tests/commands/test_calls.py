"""`lmworks.finetune`, `.align`, `.compress`, `.evaluate`: a call makes what the command makes."""

import contextlib
import inspect
import json

import pytest

import lmworks
from command_line import run
from lmworks.artefact import read_manifest
from lmworks.generate.engine import Engine

SETTINGS = {"epochs": 3, "rate": 0.02, "length": 64}
ROWS = [{"prompt": word, "completion": "aye"} for word in ("dog", "cat", "sun", "red", "leave", "tree", "ship", "moon")]
TASK = """
name = "ayes"
purpose = "does it agree"
source = "this test"
files = ["rows.jsonl"]
request = "generation"
prompt = "{prompt}"
answer = "completion"
metrics = ["exact-match"]
max_tokens = 4
"""


@pytest.fixture
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        yield tmp_path


def flags(settings):
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def test_a_call_makes_what_the_command_makes_and_rows_in_memory_what_their_file_makes(folder, tiny_folder):
    run("finetune", tiny_folder, "--data", "rows.jsonl", *flags(SETTINGS), "--out", "command")
    called = lmworks.finetune(tiny_folder, "rows.jsonl", settings=SETTINGS, out="called")
    assert called.metrics == read_manifest(folder / "called").metrics and called.report.is_file()
    assert read_manifest(called.folder).content_hash == read_manifest(folder / "command").content_hash
    of_rows = lmworks.finetune(tiny_folder, iter(ROWS), settings=SETTINGS)
    assert read_manifest(of_rows.folder).files == read_manifest(folder / "command").files
    assert Engine(of_rows.model).capabilities.generate and "<iframe" in of_rows._repr_html_()


def test_align_compress_and_evaluate_are_packages_that_are_called(folder, tiny_folder):
    from lmworks.align import DPOConfig

    pairs = [{"prompt": row["prompt"], "chosen": "aye", "rejected": "no"} for row in ROWS]
    aligned = lmworks.align(tiny_folder, pairs, settings={"steps": 2, "algorithm.beta": 0.2}, out="aligned")
    assert DPOConfig().kind == "dpo" and read_manifest(aligned.folder).config["algorithm"]["beta"] == 0.2
    run("compress", tiny_folder, "--method", "rtn", "--out", "command")
    small = lmworks.compress(tiny_folder, method="rtn")
    assert read_manifest(small.folder).content_hash == read_manifest(folder / "command").content_hash
    (folder / "ayes.toml").write_text(TASK)
    run("eval", small.folder, "--suite", "ayes.toml", "--data", ".", "--out", "scored")
    scored = lmworks.evaluate(small, "ayes.toml", data=".")
    assert read_manifest(scored.folder).content_hash == read_manifest(folder / "scored").content_hash
    assert list(inspect.signature(lmworks.align).parameters)[:3] == ["model", "data", "method"]


def test_what_is_no_row_is_refused(folder, tiny_folder):
    with pytest.raises(TypeError, match="row 2"):
        lmworks.finetune(tiny_folder, [ROWS[0], 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="row 1"):
        lmworks.finetune(tiny_folder, [{"prompt": "a", "completion": b"b"}])
