"""The stage: what it writes, counts and refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmworks.artefact import StageContext, read_rows
from lmworks.config import from_mapping
from lmworks.corpus.documents import REJECTED, DocumentStore
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.stage import read
from lmworks.records import RejectedRecord


def context(tmp_path: Path) -> StageContext:
    output = tmp_path / "output"
    output.mkdir(parents=True, exist_ok=True)
    return StageContext(inputs={}, output=output, work=tmp_path, base=tmp_path)


def test_documents_left_out_and_counts(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("text")
    (docs / "b.txt").write_bytes(b"caf\xe9")
    (docs / "c.png").write_bytes(bytes(3000))
    calls: list[int] = []
    given = context(tmp_path)
    given = StageContext(**{f: getattr(given, f) for f in ("inputs", "output", "work", "base")},
                         progress=lambda done, *_: calls.append(done))  # fmt: skip
    result = read(ReadConfig(sources=("docs",)), given)
    store = DocumentStore(given.output)
    assert [d.text for d in store] == ["text", "café"]
    assert [item.uri for item in read_rows(RejectedRecord, store.folder / REJECTED)] == ["docs/c.png"]
    assert result.metrics == {"documents": 2, "characters": 8, "rejected": 1, "encodings": {"ascii": 1, "cp1252": 1}}
    assert calls == [0, 3]
    assert ("no reader for .png", 1, "docs/c.png") in result.sections[0].tables[2].rows


def test_no_documents_at_all_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.png").write_bytes(b"png")
    with pytest.raises(ValueError, match=r"1 × .*\.png"):
        read(ReadConfig(sources=("docs",)), context(tmp_path))


def test_source_code_that_is_not_kept_is_told_with_the_setting_that_keeps_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.c").write_text("int x;\n")
    with pytest.raises(ValueError, match=r'\.c\b.*source_code="whole"'):
        read(ReadConfig(sources=("tree",)), context(tmp_path))
    (tree / "b.py").write_text('"""Of b."""\n')
    given = replace(context(tmp_path / "reduced"), base=tmp_path)
    (section,) = read(ReadConfig(sources=("tree",)), given).sections
    assert "1 documents with 18 characters" in section.text and "2 more files" in section.text
    given = replace(context(tmp_path / "whole"), base=tmp_path)
    (section,) = read(ReadConfig(sources=("tree",), source_code="whole"), given).sections
    assert section.text == "2 documents with 19 characters were read; 0 files were left out."


def test_a_table_with_its_text_in_another_column_is_told_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.jsonl").write_text('{"body": "A text."}\n')
    (tmp_path / "tables" / "b.csv").write_text("content\nOne more.\n")
    with pytest.raises(ValueError, match=r"--set documents\.columns\.text=NAME"):
        read(ReadConfig(sources=("tables",)), context(tmp_path))
    for text, count in (("body", 1), (["body", "content"], 2)):  # as the message says
        config = from_mapping(ReadConfig, {"sources": ["tables"], "columns": {"text": text}})
        assert read(config, replace(context(tmp_path / str(count)), base=tmp_path)).metrics["documents"] == count
