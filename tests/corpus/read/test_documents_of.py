"""Files that hold many documents, of many formats: each record a document, or a reason."""

import email.message
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.read.record_documents import TOLD
from lmworks.corpus.read.table_rows import Columns
from lmworks.records import Document, RejectedRecord

PAGE = (
    "<html><head><title>Bread</title></head><body><nav><a href='/'>Home</a></nav><article><h1>Bread</h1><p>"
    + "Whoever bakes bread at home knows that the dough needs time and a warm place to rest. " * 5
    + "</p></article></body></html>"
)


def read(base: Path, *sources: str, **settings) -> tuple[dict[str, Document], dict[str, RejectedRecord]]:
    items = list(read_documents(ReadConfig(sources=sources, **settings), base=base))
    documents = {item.uri: item for item in items if isinstance(item, Document)}
    return documents, {item.uri: item for item in items if isinstance(item, RejectedRecord)}


def tar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path):
    files = {"a/one.md": b"# One\n\ntext", "a/page.html": PAGE.encode(), "a/b/two.txt": b"two"}
    files |= {"a/x.png": b"\x89PNG\r\n\x1a\n"}
    (tmp_path / "docs.tar.gz").write_bytes(tar_of(files))
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    for name in ("docs.tar.gz", "docs.zip"):
        documents, left_out = read(tmp_path, name)
        assert {uri.removeprefix(f"{name}/"): document.media_type for uri, document in documents.items()} == {
            "a/one.md": "text/markdown",
            "a/page.html": "text/html",
            "a/b/two.txt": "text/plain",
        }
        assert documents[f"{name}/a/page.html"].title == "Bread"
        assert {document.source for document in documents.values()} == {name}
        assert documents[f"{name}/a/page.html"].kind == "web" and documents[f"{name}/a/one.md"].kind == "text"
        assert {uri: item.reason for uri, item in left_out.items()} == {f"{name}/a/x.png": "no reader for .png"}


def test_a_table_is_read_row_by_row(tmp_path):
    rows = [
        {"body": "First text.", "license": "MIT", "lang": "en", "score": 3},
        {"body": ""},
        {"other": "no text"},
        {"body": "Second.", "date": "2024-05-06"},
    ]
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    columns = Columns(text="body", language="lang")
    documents, left_out = read(tmp_path, "t.jsonl.gz", columns=columns, licence="CC0-1.0", kind="web")
    first, second = documents.values()
    assert (first.text, first.licence, first.language, first.metadata["score"]) == ("First text.", "MIT", "en", "3")
    assert (second.text, second.licence, second.date) == ("Second.", "CC0-1.0", "2024-05-06")
    assert first.kind == "web"
    assert len(left_out) == 2 and any(item.reason == "empty" for item in left_out.values())


def test_a_mailbox_is_read_message_by_message(tmp_path):
    message = email.message.EmailMessage()
    message["Subject"], message["From"], message["Date"] = "Bridge", "a@example.org", "Mon, 06 May 2024 10:00:00 +0200"
    message.set_content("The bridge will be closed.\n")
    (tmp_path / "m.mbox").write_bytes(b"From a@example.org Mon May  6 10:00:00 2024\n" + message.as_bytes() + b"\n")
    (document,) = read(tmp_path, "m.mbox")[0].values()
    assert (document.title, document.kind) == ("Bridge", "mail")
    assert document.text.strip() == "The bridge will be closed."
    assert document.date is not None and document.date.startswith("2024-05-06")


def test_source_code_in_an_archive_is_what_it_is_in_a_folder(tmp_path):
    files = {"p/m.py": b'def f(x=1):\n    "What f does."\n    return x\n', "p/x.c": b"int x;\n"}
    (tmp_path / "code.tar.gz").write_bytes(tar_of(files))
    documents, left_out = read(tmp_path, "code.tar.gz")
    assert documents["code.tar.gz/p/m.py"].title == "module p.m"
    assert "What f does." in documents["code.tar.gz/p/m.py"].text
    assert {item.reason for item in left_out.values()} == {"no reader for .c"}
    documents, _ = read(tmp_path, "code.tar.gz", source_code="whole")
    assert {document.kind for document in documents.values()} == {"code"} and len(documents) == 2


@pytest.mark.parametrize("damage", [b"PK\3\4 not a zip", b"\x1f\x8b\x08\x00 not gzip", b"%PDF-1.4 not a PDF"])
def test_a_damaged_file_costs_itself(tmp_path, damage):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_bytes(damage)
    (tmp_path / "docs" / "b.txt").write_text("good")
    documents, left_out = read(tmp_path, "docs")
    assert list(documents) == ["docs/b.txt"]
    assert list(left_out) and all(uri.startswith("docs/a.txt") for uri in left_out)


@pytest.mark.parametrize("columns", [1, 200])
def test_a_file_of_broken_rows_is_told_in_fewer_bytes_than_it_has_rows(tmp_path, columns):
    """Each refusal is counted, by its reason; no more than `TOLD` have a line of their own."""
    rows = [json.dumps({"text": "one"}), *("[" + " " * (number % columns) + "x" for number in range(TOLD + 2500))]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    items = list(read_documents(ReadConfig(sources=("t.jsonl",)), base=tmp_path))
    left_out = [item for item in items if isinstance(item, RejectedRecord)]
    assert len(items) - len(left_out) == 1
    assert [item.uri for item in left_out[:TOLD]] == [f"t.jsonl/{number + 2}" for number in range(TOLD)]
    others = left_out[TOLD:]
    assert {item.uri for item in others} == {"t.jsonl"} and all("told one by one" in item.reason for item in others)
    assert sum(item.count for item in left_out) == TOLD + 2500
    assert len(others) == min(columns, 101)
