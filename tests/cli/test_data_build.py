"""`lmworks data build` and `lmworks data policy`, and what can be done with cleaned documents afterwards."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.tables import for_each
from lmworks.artefact import read_manifest
from lmworks.cli.build_command import checked_recipe
from lmworks.cli.main import app
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.filter_policy import default_policy, read_policy

TEXT = "The council met on Tuesday to talk about the new bridge over the river. " * 8


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder in which `odd name/` was cleaned into the default workspace."""
    base = tmp_path_factory.mktemp("build")
    (base / "odd name").mkdir()
    (base / "odd name" / "a.md").write_text(f"{TEXT} Write to jane.miller@bakery-miller.com.")
    (base / "odd name" / "b.md").write_text(f"# B\n\n{TEXT * 2}")
    (base / "odd name" / "twin.md").write_text(f"# B\n\n{TEXT * 2}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        (base / "told").write_text(run("data", "build", "odd name"))
    return base


def commands(base: Path) -> list[str]:
    return [line.strip() for line in (base / "told").read_text().split("\n") if line.startswith("  lmworks")]


def test_the_end_of_a_build_names_the_documents_and_what_can_be_done_with_them(base, monkeypatch):
    monkeypatch.chdir(base)
    (told,) = [line for line in (base / "told").read_text().split("\n") if line.startswith("Cleaned documents: ")]
    folder = Path(told.removeprefix("Cleaned documents: ").split(" (")[0])
    assert told.endswith("(2 of them, JSON Lines)") and {each.suffix for each in folder.iterdir()} == {".jsonl"}
    assert commands(base) == [
        "lmworks data why 'odd name/twin.md'",  # one that went
        "lmworks data card",
        "lmworks data policy --out policy.toml",
        "lmworks up --docs .lmworks/clean",
        "lmworks build scratch --docs .lmworks/clean",
    ]
    assert "dropped by equal" in run("data", "why", "odd name/twin.md")
    assert run("data", "card").startswith("---\n")


def test_cleaned_documents_are_a_source_by_their_workspace(base, tmp_path, monkeypatch):
    """That which is named at the end of a build, for a recipe; the stages after it read what was cleaned."""
    monkeypatch.chdir(base)
    told = next(line for line in (base / "told").read_text().split("\n") if line.startswith("In a recipe"))
    setting = told.split("`")[1]
    run("stage", "corpus.read", "--set", setting.replace(" ", "", 2), "--out", str(tmp_path / "documents"))
    cleaned = next((base / ".lmworks" / "clean" / "stages" / "cleaned").iterdir())
    assert list(DocumentStore(tmp_path / "documents")) == list(DocumentStore(cleaned))
    given = ["--from", str(tmp_path / "documents"), "--set", "vocabulary_size=300"]
    run("stage", "tokenizer.bpe", *given, "--out", str(tmp_path / "vocabulary"))


def test_a_system_over_a_workspace_has_another_one_of_its_own(base, monkeypatch):
    monkeypatch.chdir(base)
    recipe, folder = checked_recipe("scratch", Path(".lmworks/clean"), None, None)
    assert folder == Path(".lmworks/clean-scratch")
    assert recipe.stages[0].config.sources == (str(base / ".lmworks" / "clean"),)
    assert checked_recipe("scratch", Path("odd name"), None, None)[1] == Path(".lmworks/odd name")


def test_a_folder_whose_name_is_no_utf8(tmp_path, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "a.md").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    run("data", "build", os.fsdecode(b"\xff"))
    assert " done in " not in run("data", "build", os.fsdecode(b"\xff"))
    assert "stays" in run("data", "why", "a.md") and "# \\\\xff\n" in run("data", "card")


def test_a_quoted_tilde_is_home_and_an_empty_name_no_folder(tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text(TEXT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "a.md" in run("data", "build", "~/*.md", "--workspace", str(tmp_path / "w"))
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["data", "build", ""])
    assert "a source is empty: name a folder" in str(found.exception)


def test_the_folder_around_the_workspace_is_the_same_source_again(tmp_path, monkeypatch):
    """What the first build wrote into it is no part of it, whether the workspace is hidden or not."""
    (tmp_path / "a.md").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    for workspace in (".lmworks/clean", "seen"):
        run("data", "build", ".", "--workspace", workspace)
        assert " done in " not in run("data", "build", ".", "--workspace", workspace)


@for_each(
    "arguments",
    [
        ["data", "build", ".lmworks/clean"],
        ["data", "build", "file://.lmworks/clean"],
        ["data", "build", ".lmworks/clean/stages/cleaned"],
        ["data", "build", "x", "--set", 'documents.sources=[".lmworks/clean"]'],
        ["build", "scratch", "--docs", ".lmworks/clean", "--workspace", ".lmworks/../.lmworks/clean"],
    ],
)
def test_a_workspace_is_no_source_of_itself(base, monkeypatch, arguments):
    monkeypatch.chdir(base)
    found = CliRunner().invoke(app, arguments)
    assert "cannot be a source of itself: name another one with --workspace" in str(found.exception)


def test_a_stage_that_reads_from_a_workspace_has_its_documents(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base)
    run("stage", "corpus.tag", "--from", ".lmworks/clean", "--out", str(tmp_path / "annotations"))
    cleaned = next((base / ".lmworks" / "clean" / "stages" / "cleaned").iterdir())
    assert read_manifest(tmp_path / "annotations").parents == {"clean": read_manifest(cleaned).content_hash}


def test_the_default_policy_can_be_written_changed_and_used(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base)
    assert tomllib.loads(run("data", "policy"))["steps"]
    path = tmp_path / "policy.toml"
    assert run("data", "policy", "--out", str(path)).strip() == str(path)
    assert read_policy(path) == default_policy()
    again = CliRunner().invoke(app, ["data", "policy", "--out", str(path)])
    assert isinstance(again.exception, FileExistsError)
    path.write_text('[[steps]]\nname = "long"\nlimits = { words = { at_least = 150 } }\n')
    run("data", "build", "odd name", "--policy", str(path), "--workspace", str(tmp_path / "w"))
    (folder,) = (tmp_path / "w" / "stages" / "cleaned").iterdir()
    assert [each.uri for each in DocumentStore(folder)] == ["odd name/b.md", "odd name/twin.md"]  # no other step
    assert [step["name"] for step in json.loads((folder / "policy.json").read_text())["steps"]] == ["long"]
