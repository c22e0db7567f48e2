"""Where a policy drops every document: report, ledger and card are there, and what would read the documents refuses."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.artefact import CURRENT, read_manifest, verify
from lmworks.build import run_alone
from lmworks.cli.main import app
from lmworks.corpus.documents import DocumentStore, made_folder
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.sources.files import NoSourceError
from lmworks.corpus.taggers.classifier_examples import documents_in

NAMES = ("texts/long.txt", "texts/short.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nothing")
    (folder / "texts").mkdir()
    (folder / "texts" / "short.txt").write_text("Only a few words here.")
    (folder / "texts" / "long.txt").write_text("The council met on Tuesday to talk about the new bridge. " * 5)
    run_alone("data.read", folder / "documents", [], [], [f'sources=["{folder / "texts"}"]'])
    run_alone("data.annotate", folder / "annotations", [folder / "documents"], [], [])
    steps = (
        'steps=[{name="few", limits={words={at_least=20}}}, {name="more", limits={words={at_least=10000}}},'
        ' {name="private", marks={"pii.*"={action="redact"}}}]'
    )
    run_alone("data.clean", folder / "cleaned", [folder / "documents", folder / "annotations"], [], [steps])
    return folder


def test_the_artefact_is_whole_and_tells_what_took_them(folder):
    cleaned = folder / "cleaned"
    manifest = read_manifest(cleaned)
    verify(cleaned, manifest)
    assert len(DocumentStore(cleaned)) == manifest.metrics["documents"] == manifest.metrics["bytes"] == 0
    assert manifest.metrics["documents_before"] == 2
    dropped = {row.document: row.step for row in read_ledger(cleaned / LEDGER) if row.verdict == "dropped"}
    assert dropped == {"texts/short.txt": "few", "texts/long.txt": "more"}
    told = "No document is left: few dropped 1 (words 1); more dropped 1 (words 1)."
    assert told in (cleaned / "report.html").read_text("utf-8")
    assert "more" in (cleaned / "data_card.md").read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_each_document_has_its_story(folder, name):
    found = CliRunner().invoke(app, ["data", "why", name, "--workspace", str(folder / "cleaned")])
    assert found.exit_code == 0 and f"dropped by {'few' if 'short' in name else 'more'}" in found.output


@pytest.mark.parametrize(
    "use", ["data.annotate", "data.balance", "tokenizer.bpe", "embeddings.glove", "ground.questions"]
)
def test_stages_that_would_read_them_refuse_and_say_where_to_look(folder, tmp_path, use):
    cleaned = folder / "cleaned"
    with pytest.raises(ValueError, match="holds no documents") as caught:
        run_alone(use, tmp_path / "out", [cleaned], [], [])
    assert str(cleaned / "report.html") in str(caught.value) and f"--workspace {cleaned}`" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_they_are_no_source_and_neither_are_the_files_beside_them(folder):
    """An artefact without documents is no folder of files: its report and card are no examples of a classifier."""
    with pytest.raises(NoSourceError, match="holds no documents"):
        list(documents_in([str(folder / "cleaned")], ReadConfig(), []))


def test_a_workspace_of_them_does_not_give_what_was_not_cleaned(folder, tmp_path):
    """The documents that a stage before it made are none that the policy let through."""
    for name in ("documents", "cleaned"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / CURRENT).write_text(json.dumps({"stages": {"documents": "documents", "cleaned": "cleaned"}}))
    assert made_folder(tmp_path) == tmp_path / "cleaned"
    with pytest.raises(NoSourceError, match="holds no documents"):
        list(read_documents(ReadConfig(sources=(str(tmp_path),))))
