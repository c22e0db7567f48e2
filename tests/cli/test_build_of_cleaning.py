"""The end of a build with a stage corpus.filter: of any recipe, and where no document is left."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app
from lmworks.corpus.documents import DocumentStore, made_folder

SENTENCE = "The council met on Tuesday to talk about the new bridge over the river. "
RECIPE = """
name = "mixture"
[stages.books]
use = "corpus.read"
sources = ["books"]
[stages.notes]
use = "corpus.read"
sources = ["notes"]
[stages.known]
use = "corpus.tag"
from = ["books", "notes"]
[stages.kept]
use = "corpus.filter"
from = ["books", "notes", "known"]
steps = [{name = "few", limits = {words = {at_least = 50}}}]
[stages.mixed]
use = "corpus.balance"
from = ["kept"]
total = 1
unit = "documents"
"""


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with two long books and a short note, in which a recipe was built."""
    base = tmp_path_factory.mktemp("mixture")
    for name, times in (("books/a.md", 20), ("books/b.md", 30), ("notes/a.md", 1)):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(SENTENCE * times)
    (base / "mixture.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        (base / "told").write_text(run("build", "mixture.toml"))
    return base


def test_any_recipe_that_cleans_tells_what_can_be_done_with_the_documents(base, monkeypatch):
    monkeypatch.chdir(base)
    told, workspace = (base / "told").read_text(), Path(".lmworks/mixture")
    (kept,) = (workspace / "stages" / "kept").iterdir()
    assert f"\nCleaned documents: {kept / 'documents'} (2 of them, JSON Lines)\n" in told
    assert "to change and name with --set kept.policy=FILE\n" in told
    commands = [line.strip() for line in told.split("\n") if line.startswith("  lmworks")]
    assert commands == [
        "lmworks data why notes/a.md --workspace .lmworks/mixture",
        "lmworks data card --workspace .lmworks/mixture",
        "lmworks data policy --out policy.toml",
        "lmworks up --docs .lmworks/mixture",
        "lmworks build scratch --docs .lmworks/mixture",
    ]
    assert "dropped by few" in run(*commands[0].split()[1:])
    assert run(*commands[1].split()[1:]).startswith("---\n")


def test_documents_that_a_later_stage_made_are_those_that_the_workspace_stands_for(base, monkeypatch):
    monkeypatch.chdir(base)
    (mixed,) = Path(".lmworks/mixture/stages/mixed").iterdir()
    assert made_folder(Path(".lmworks/mixture")) == mixed and len(DocumentStore(mixed)) == 1
    told = (base / "told").read_text()
    assert f"\nDocuments that the workspace stands for: {mixed / 'documents'} (1 of them)\n" in told


def test_where_no_document_is_left_nothing_is_offered_that_needs_one(base, monkeypatch):
    monkeypatch.chdir(base)
    steps = 'cleaned.steps=[{name="few", limits={words={at_least=50}}}]'
    told = run("data", "build", "notes", "--set", steps)
    commands = [line.strip() for line in told.split("\n") if line.startswith("  lmworks")]
    assert commands == [
        "lmworks data why notes/a.md", "lmworks data card", "lmworks data policy --out policy.toml"
    ]  # fmt: skip
    assert "(0 of them, JSON Lines)" in told and "to change and name with --policy\n" in told
    assert "No document is left to answer from or to train on: give the steps" in told and "In a recipe" not in told
