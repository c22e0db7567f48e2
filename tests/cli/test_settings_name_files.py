"""A setting of a recipe, or of one stage, that names a file or a source which is not there: the message says which
setting it is and what to do, before any stage runs."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.tables import for_each
from lmworks.cli.main import app
from lmworks.config import ConfigError

NAMES_A_FILE = {
    "cleaned.policy": '"no.toml"',
    "annotations.evaluation": '["no.jsonl"]',
    "annotations.word_lists": '["no.txt"]',
    "annotations.classifiers.quality": '"no.npz"',
}


@pytest.fixture
def notes(tmp_path, monkeypatch) -> Path:
    """A folder with a document, in the current one."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("A note of a few words.")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "notes"


def message(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert isinstance(found.exception, ConfigError), (found.output, found.exception)
    return str(found.exception)


@for_each("setting", NAMES_A_FILE)
def test_a_missing_file_is_told_by_the_setting_of_its_stage(notes, setting):
    told = message("data", "build", "notes", "--set", f"{setting}={NAMES_A_FILE[setting]}")
    assert told.startswith(f"{setting}: there is no file {notes.parent / 'no.'}")
    assert "or leave the setting out" in told and f"A relative path starts at {notes.parent}" in told
    assert not list((notes.parent / ".lmworks").glob("clean/stages/*"))


def test_what_is_wrong_in_a_policy_is_told_with_the_setting_and_the_file(notes):
    (notes.parent / "my.toml").write_text('[[steps]]\nname = "few"\npreset = "gofer"\n')
    told = message("data", "build", "notes", "--set", "cleaned.policy=my.toml")
    assert told.startswith(f"cleaned.policy: {notes.parent / 'my.toml'}.steps.0.preset: 'gofer' is not one of")


def test_one_stage_alone_tells_the_setting_as_well(notes):
    CliRunner().invoke(app, ["stage", "corpus.read", "--set", 'sources=["notes"]', "--out", "documents"])
    given = ["--from", "documents", "--out", "annotations", "--set", 'evaluation=["no.jsonl"]']
    assert message("stage", "corpus.tag", *given).startswith("evaluation: there is no file")
    assert message("stage", "corpus.filter", *given[:4], "--set", "policy=no.toml").startswith(
        "policy: there is no file"
    )


def recipe(path: Path, **sources: list[str]) -> str:
    """A recipe with a stage corpus.read for each of these."""
    lines = ['name = "mixture"']
    for name, wanted in sources.items():
        lines += [f"[stages.{name}]", 'use = "corpus.read"', f"sources = {json.dumps(wanted)}"]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@for_each(
    ("sources", "told"),
    [
        (["nowhere"], "there is no .*nowhere: name a folder, a file or a glob"),
        (["notes/*.md"], r"no file matches .*notes/\*\.md: correct the glob"),
        ([], 'no sources: set "sources"'),
    ],
)
def test_a_missing_source_is_told_before_the_stages_in_front_of_it_run(notes, sources, told):
    written = recipe(notes.parent / "mixture.toml", here=["notes"], there=sources)
    assert re.match(rf"there\.sources: {told}", message("build", written))
    assert not list((notes.parent / ".lmworks").glob("mixture/stages/*"))
