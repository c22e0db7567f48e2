"""The lineage of what stages made alone, outside of any workspace, and across workspaces."""

import shutil
from io import StringIO

import pytest
from rich.console import Console
from rich.tree import Tree
from typer.testing import CliRunner

from lmworks import lineage
from lmworks.artefact import read_manifest
from lmworks.build import build, run_alone
from lmworks.cli.main import app
from lmworks.corpus.documents import DocumentStore
from lmworks.lineage import trace
from lmworks.recipe import find, load
from lmworks.records import Interaction, Message, Span
from lmworks.stages import STAGES
from lmworks.workspace import open_log, read_current


def shown(tree) -> str:
    stream = StringIO()
    Console(file=stream, width=200).print(tree)
    return stream.getvalue()


def test_a_folder_leads_to_those_beside_it(tmp_path):
    """A parent that lies beside it is told with its own settings; one that was moved away, by its hash."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The cat sees the dog. The dog sees the cat.")
    run_alone("corpus.read", tmp_path / "documents", [], [], [f'sources=["{tmp_path}/texts"]'])
    run_alone("tokenizer.bpe", tmp_path / "words", [tmp_path / "documents"], [], ["vocabulary_size=270"])
    told = shown(trace(None, str(tmp_path / "words")))
    digests = {name: read_manifest(tmp_path / name).content_hash[:12] for name in ("documents", "words")}
    assert "words (tokenizer.bpe v" in told and f"content {digests['words']}" in told
    assert "documents (corpus.read v" in told and digests["documents"] in told and "texts" in told
    shutil.move(tmp_path / "documents", tmp_path / "texts" / "documents")
    told = shown(trace(None, str(tmp_path / "words")))
    assert f"from documents {digests['documents']}" in told and "corpus.read" not in told


def test_what_no_stage_made_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder that a stage made .* no system was built in this folder"):
        trace(None, str(tmp_path))


def test_what_a_model_alone_made_leads_to_its_weights(tmp_path):
    """Nothing is built in the workspace of a model that is served alone."""
    made = Interaction(
        "0" * 16, 0.0, (Message("user", "Hi"),), "Hello", lineage={"model:tiny": "ab" * 32}, route="tiny"
    )
    with open_log(tmp_path) as log:
        log.record(made).result()
    for prefix in ("", "chatcmpl-", "cmpl-", "resp_"):
        assert "abababababab" in shown(trace(tmp_path, f"{prefix}{made.id}"))


NOTE = "Write to jane.miller@works-miller.com before the end of March, or call the desk on any day of the week. " * 3


@pytest.fixture
def second(tmp_path, monkeypatch):
    """A workspace whose documents were read from another one, in which they were cleaned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text(NOTE)
    (tmp_path / "second.toml").write_text(
        'name = "second"\ndescription = "Of what another workspace cleaned"\n[stages.read]\nuse = "corpus.read"\n'
        f'sources = ["{tmp_path / "first"}"]\n[stages.words]\nuse = "tokenizer.bpe"\nfrom = ["read"]\n'
        "vocabulary_size = 270\n"
    )
    settings = [f'documents.sources=["{tmp_path / "notes"}"]', "documents.execution.workers=1"]
    build(load(find("clean"), settings), tmp_path / "first", Console(file=StringIO()))
    build(load(tmp_path / "second.toml"), tmp_path / "second", Console(file=StringIO()))
    return tmp_path / "second"


def test_documents_of_a_workspace_lead_to_what_that_was_made_from(second):
    """Each artefact is told once, whatever ways lead to it, and a place of a cleaned text to where it was before."""
    told = shown(trace(second, "words"))
    uses = ("tokenizer.bpe", "corpus.read", "corpus.filter", "corpus.read", "corpus.tag", "corpus.dedup")
    assert all(f"({use} v{STAGES[use].version}) content" in told for use in uses)
    assert told.count("made in ") == len(uses) and told.count("shown above") == 3
    (document,) = DocumentStore(second / read_current(second).stages["read"])
    start = document.text.index("or call")
    tree = Tree("")
    folders = lineage._known(second)[0]
    span = Span(document.hash, start, start + len("or call"))
    lineage._cleaning_tree(tree, span, second / read_current(second).stages["read"], folders)
    assert f"there at {NOTE.index('or call')}-" in shown(tree)


def test_a_workspace_that_is_gone_is_told_by_its_hash(second):
    digest = read_manifest(second / read_current(second).stages["read"]).parents["source cleaned"]
    shutil.rmtree(second.with_name("first"))
    told = shown(trace(second, "words"))
    assert f"from source cleaned {digest[:12]}" in told and "corpus.filter" not in told


def test_why_is_answered_in_the_workspace_that_read_what_was_cleaned(second):
    (document,) = DocumentStore(second / read_current(second).stages["read"])
    found = CliRunner().invoke(app, ["data", "why", document.hash, "--workspace", str(second)])
    assert found.exit_code == 0 and "notes/a.md" in found.output and "<EMAIL>" in found.output
    shutil.rmtree(second.with_name("first"))
    found = CliRunner().invoke(app, ["data", "why", document.hash, "--workspace", str(second)])
    assert "holds no ledger, nor does what its documents were read from" in str(found.exception)
