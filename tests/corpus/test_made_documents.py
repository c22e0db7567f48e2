"""Documents that a stage made as a source: they come as they are, from its folder or from the workspace."""

import json
from pathlib import Path

import pytest

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.sources.files import NoSourceError
from lmworks.records import Document, RejectedRecord


def read(base: Path, *sources: str, **settings: object) -> tuple[dict[str, Document], dict[str, str]]:
    items = list(read_documents(ReadConfig(sources=sources, **settings), base=base))  # type: ignore[arg-type]
    documents = [item for item in items if isinstance(item, Document)]
    return {item.uri: item for item in documents}, {i.uri: i.reason for i in items if isinstance(i, RejectedRecord)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder `notes`, and a workspace `w` with two artefacts of it, the second being of one file alone."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("# Of *a*\n\ntext")
    (tmp_path / "notes" / "b.txt").write_text("text", "utf-8")
    for name, source in (("first", "notes"), ("second", "notes/a.md")):
        (tmp_path / "w" / "stages" / name).mkdir(parents=True)
        run_alone("corpus.read", tmp_path / "w" / "stages" / name / "key", [], [], [f'sources=["{tmp_path / source}"]'])
    stages = {"first": "stages/first/key", "second": "stages/second/key", "third": "stages/third/key"}
    (tmp_path / "w" / "current.json").write_text(json.dumps({"stages": stages}))
    (tmp_path / "w" / "build.lock").touch()  # as every workspace has one
    return tmp_path


def test_documents_come_as_they_are_with_a_name_in_front_beside_others(base: Path) -> None:
    documents, rejected = read(base, "w/stages/first/key")
    assert list(documents.values()) == list(DocumentStore(base / "w" / "stages" / "first" / "key"))
    assert documents["notes/a.md"].extractor == "markdown" and not rejected  # not the row of a table
    for sources, uris in {
        ("w",): ["a.md"],  # those that were made last
        ("w/stages/first/key/documents",): ["notes/a.md", "notes/b.txt"],
        ("w/stages/first", "w/stages/second"): ["first/notes/a.md", "first/notes/b.txt", "second/a.md"],
        ("notes", "w/stages/first/key"): ["notes/a.md", "notes/b.txt", "key/notes/a.md", "key/notes/b.txt"],
        (".",): [f"{base.name}/notes/a.md", f"{base.name}/notes/b.txt"],
    }.items():
        assert list(read(base, *sources)[0]) == uris
    with pytest.raises(NoSourceError):
        read(base, "w/stages/fourth")
    documents, _ = read(base, "w", kind="book", licence="MIT")
    assert documents["a.md"].kind == "book" and documents["a.md"].licence == "MIT"


def test_a_document_that_was_changed_is_an_error(base: Path) -> None:
    (shard,) = (base / "w" / "stages" / "second" / "key" / "documents").iterdir()
    shard.write_text(shard.read_text().replace("\\ntext", "\\ntxet"))
    with pytest.raises(ValueError, match="hash"):
        read(base, "w")
