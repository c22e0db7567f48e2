"""Documents that a stage made as a source: they come as they are, from its folder or from the workspace."""

import json
from pathlib import Path

import pytest

from lmworks.artefact import StageContext
from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore, StoreError
from lmworks.corpus.execution.execution import ExecutionConfig
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import found_sources, read_documents, source_digest
from lmworks.corpus.read.stage import read as read_stage
from lmworks.corpus.sources.files import FoundFile, NoSourceError
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
        run_alone("data.read", tmp_path / "w" / "stages" / name / "key", [], [], [f'sources=["{tmp_path / source}"]'])
    stages = {"first": "stages/first/key", "second": "stages/second/key", "third": "stages/third/key"}
    (tmp_path / "w" / "current.json").write_text(json.dumps({"stages": stages}))
    return tmp_path


def test_documents_come_as_they_are(base: Path) -> None:
    documents, left_out = read(base, "w/stages/first/key")
    assert list(documents.values()) == list(DocumentStore(base / "w" / "stages" / "first" / "key"))
    assert documents["notes/a.md"].extractor == "markdown" and not left_out  # not the row of a table


def test_a_workspace_is_the_documents_that_were_made_last(base: Path) -> None:
    assert list(read(base, "w")[0]) == ["a.md"]
    (base / "w" / "build.lock").touch()  # as every workspace has one
    assert list(read(base, "w")[0]) == ["a.md"]
    assert list(read(base, ".")[0]) == [f"{base.name}/notes/a.md", f"{base.name}/notes/b.txt"]


def test_a_stage_of_a_workspace_can_be_named(base: Path) -> None:
    assert list(read(base, "w/stages/first")[0]) == ["notes/a.md", "notes/b.txt"]
    assert list(read(base, "w/stages/first", "w/stages/second")[0]) == [
        "first/notes/a.md", "first/notes/b.txt", "second/a.md"]  # fmt: skip
    with pytest.raises(NoSourceError):
        read(base, "w/stages/fourth")


def test_the_folder_with_the_lines_is_the_same(base: Path) -> None:
    assert read(base, "w/stages/first/key/documents") == read(base, "w/stages/first/key")


def test_what_a_workspace_stands_for_is_told(base: Path) -> None:
    told: list[str] = []
    for name in ("output", "work"):
        (base / name).mkdir()
    context = StageContext({}, base / "output", base / "work", base=base, progress=lambda *a: told.append(str(a[-1])))
    read_stage(ReadConfig(sources=("w",), execution=ExecutionConfig(workers=1)), context)
    assert f"read as they are, which a stage made: {base / 'w' / 'stages' / 'second' / 'key'}" in told


def test_beside_other_sources_they_have_the_name_of_the_folder_in_front(base: Path) -> None:
    documents, _ = read(base, "notes", "w/stages/first/key")
    assert list(documents) == ["notes/a.md", "notes/b.txt", "key/notes/a.md", "key/notes/b.txt"]


def test_beside_the_documentation_of_python_as_well(base: Path) -> None:
    """They may be from it themselves, and no two uris are equal."""
    found = [*found_sources(ReadConfig(sources=("python-docs", "w/stages/first/key")), base)]
    assert [each.source for each in found if isinstance(each, FoundFile)] == ["key"]


def test_in_another_source_they_are_left_out(base: Path) -> None:
    (base / "w" / "current.json").unlink()
    documents, left_out = read(base, ".", exclude=("notes",))
    assert not documents
    assert left_out[f"{base.name}/w/stages/first/key/"].startswith("documents that a stage made; name the folder")


def test_kind_and_licence_are_said_where_they_are_not_stated(base: Path) -> None:
    documents, _ = read(base, "w", kind="book", licence="MIT")
    assert documents["a.md"].kind == "book" and documents["a.md"].licence == "MIT"


def test_other_documents_are_another_source(base: Path) -> None:
    config = ReadConfig(sources=("w",))
    before = source_digest(config, base)
    (base / "w" / "current.json").write_text(json.dumps({"stages": {"first": "stages/first/key"}}))
    assert source_digest(config, base) != before


def test_a_document_that_was_changed_is_an_error(base: Path) -> None:
    (shard,) = (base / "w" / "stages" / "second" / "key" / "documents").iterdir()
    shard.write_text(shard.read_text().replace("\\ntext", "\\ntxet"))
    with pytest.raises(StoreError, match="does not have the recorded hash"):
        read(base, "w")


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"stages": 1}', '{"stages": {"a": 2}}', "\0"])
def test_a_folder_with_another_file_of_that_name_is_read_file_by_file(tmp_path: Path, written: str) -> None:
    (tmp_path / "current.json").write_text(written)
    (tmp_path / "a.md").write_text("text")
    documents, _ = read(tmp_path, ".")
    assert list(documents) == [f"{tmp_path.name}/a.md"]


def test_a_folder_of_tables_called_documents_is_no_such_folder(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "2019-01.jsonl").write_text('{"text": "a row"}\n')
    assert list(read(tmp_path, ".")[0]) == [f"{tmp_path.name}/documents/2019-01.jsonl/1"]


def test_a_damaged_manifest_is_told_before_anything_is_read(base: Path) -> None:
    (base / "w" / "stages" / "second" / "key" / "manifest.json").write_text("{}")
    for name in ("output", "work"):
        (base / name).mkdir()
    with pytest.raises(ValueError, match="second/key"):
        read_stage(ReadConfig(sources=("w",)), StageContext({}, base / "output", base / "work", base=base))
    assert not list((base / "work").iterdir())
