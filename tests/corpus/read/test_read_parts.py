"""Parts of any size, read by anybody, make the artefact that one pass over the files makes."""

import gzip
import hashlib
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kit.tables import for_each
from lmworks.artefact import StageContext, UnreachableError
from lmworks.corpus.documents import REJECTED, document_to_json, rejected_to_json, shard_paths
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import found_sources, read_documents
from lmworks.corpus.read.read_parts import PartSizes, _Cut, cut_file, read_parts
from lmworks.corpus.read.reader import DocumentLine, Piece
from lmworks.corpus.read.stage import read
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.work_parts import ExecutionConfig
from lmworks.records import Document
from lmworks.sandbox import Mark, Sandbox

TINY = st.builds(PartSizes, bytes=st.integers(300, 6000), files=st.integers(1, 4), large=st.integers(1, 3000))


def context(folder: Path, base: Path) -> StageContext:
    (folder / "output").mkdir(parents=True)
    (folder / "work").mkdir()
    return StageContext(inputs={}, output=folder / "output", work=folder / "work", base=base)


def contents(given: StageContext) -> str:
    """A digest of the artefact's files."""
    digest = hashlib.sha256()
    for path in (*shard_paths(given.output), given.output / REJECTED):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def rows(count: int, size: int = 40) -> bytes:
    return b"".join(
        json.dumps({"text": f"row {number} " + "x" * size, "n": number}).encode() + b"\n" for number in range(count)
    )


def write_sources(folder: Path) -> None:
    """Something of each container, several of them damaged or refused, among small files."""
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\ntext\n")
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    (folder / "big.txt").write_text("one long text. " * 500)
    (folder / "d.jsonl").write_bytes(rows(30) + b"{broken\n" + rows(20))
    (folder / "e.jsonl").write_bytes(b'{"body": 1}\n' * 500)
    (folder / "f.jsonl.gz").write_bytes(gzip.compress(rows(60)) + gzip.compress(rows(9)))
    (folder / "g.jsonl.gz").write_bytes(gzip.compress(rows(400))[:-200])
    (folder / "h.csv").write_text("text,title\n" + "".join(f'"a ""{n}""\nb",t{n}\n' for n in range(50)))
    texts = pa.array([f"text {number}" for number in range(50)])
    parquet.write_table(pa.table({"text": texts}), folder / "i.parquet", row_group_size=7)
    with zipfile.ZipFile(folder / "j.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.txt", "b/c.md", "d.bin", "b/../b/c.md"):
            archive.writestr(zipfile.ZipInfo(name), f"{name} inside, of some length\n" * 30)
        archive.writestr(zipfile.ZipInfo("rows.jsonl"), rows(40))
    with tarfile.open(folder / "k.tar.gz", "w:gz") as archive:
        for path in sorted(folder.glob("*.md")):
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with path.open("rb") as stream:
                archive.addfile(info, stream)
    fields = (
        "WARC/1.0",
        "WARC-Type: resource",
        "WARC-Target-URI: u:{}",
        "Content-Type: text/plain",
        "Content-Length: 90",
    )
    header = "\r\n".join(fields)
    pages = [f"{header.format(number % 7)}\r\n\r\n{'p' * 90}\r\n\r\n".encode() for number in range(20)]
    (folder / "l.warc.gz").write_bytes(b"".join(map(gzip.compress, pages)))
    (folder / "m.warc").write_bytes(b"".join(pages[:4]) + b"foreign\n" + b"".join(pages[4:]))
    (folder / "n.zip").write_bytes(b"PK\3\4" + bytes(4000))
    (folder / "o.tar").write_bytes(bytes(10240))
    letter = b"From a@example.org Mon May  6 10:00:00 2024\nSubject: letter\n\nOf a letter.\n\n"
    (folder / "q.mbox").write_bytes(letter * 12)
    (folder / "p.parquet").write_bytes(b"PAR1" + bytes(4000))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("parts")
    write_sources(base / "in")
    return base


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    given = context(tmp_path_factory.mktemp("expected"), sources)
    result = read(config(), given)
    assert result.metrics["documents"] > 400 and result.metrics["rejected"] > 4
    found = list(read_documents(config(), base=sources))
    lines = [document_to_json(each) if isinstance(each, Document) else rejected_to_json(each) for each in found]
    written = [*shard_paths(given.output), given.output / REJECTED]
    assert sorted(lines) == sorted(line for path in written for line in path.read_text("utf-8").split("\n")[:-1])
    return contents(given)


def config(workers: int = 1) -> ReadConfig:
    return ReadConfig(sources=("in",), execution=ExecutionConfig(workers))


@given(sizes=TINY)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sizes_of_parts_make_the_same_bytes(
    sources: Path, expected: str, tmp_path_factory: pytest.TempPathFactory, sizes: PartSizes
) -> None:
    given = context(tmp_path_factory.mktemp("any"), sources)
    with pytest.MonkeyPatch.context() as patch:  # hundreds of parts, which no test needs on the disk
        patch.setattr("lmworks.corpus.work_parts.publish", lambda temporary, final: temporary.rename(final))
        read(config(), given, sizes)
    assert contents(given) == expected
    assert not list((given.work / "pieces").iterdir())


SMALL = PartSizes(bytes=1500, files=2, large=800)


def test_other_processes_make_the_same_bytes(sources: Path, expected: str, tmp_path: Path) -> None:
    given = context(tmp_path, sources)
    told: list[tuple[int, int | None]] = []
    read(config(2), replace(given, progress=lambda done, total, *_: told.append((done, total))), SMALL)
    assert contents(given) == expected
    assert told[-1][0] == told[-1][1] and told == sorted(told)


def test_what_was_done_is_not_done_again_and_what_was_half_done_goes(
    sources: Path, expected: str, tmp_path: Path
) -> None:
    given = context(tmp_path, sources)
    read(config(), given, SMALL)
    parts = sorted((given.work / "read").iterdir())
    kept = {path: path.stat().st_ino for path in parts[::2]}
    for path in parts[1::2]:
        path.rename(path.with_name(f".{path.name}.0123.tmp"))
    (given.work / "pieces" / "000003.pickle").write_bytes(b"half")
    (tmp_path / "again").mkdir()
    again = replace(given, output=tmp_path / "again")
    read(config(), again, SMALL)
    assert contents(again) == expected
    assert sorted((given.work / "read").iterdir()) == parts
    assert all(path.stat().st_ino == number for path, number in kept.items())


def test_large_files_are_cut_and_small_ones_put_together(sources: Path, tmp_path: Path) -> None:
    found = list(found_sources(config(), sources))
    sizes = PartSizes(bytes=1500, files=100, large=800)
    with Sandbox() as sandbox:
        parts = list(read_parts(found, config(), tmp_path, sizes, sandbox))
    by_file: dict[str, int] = {}
    for part in parts:
        for each in part.given.found:
            assert isinstance(each, FoundFile)
            by_file[each.relative.name] = by_file.get(each.relative.name, 0) + 1
    assert by_file["0.md"] == by_file["big.txt"] == by_file["e.jsonl"] == by_file["n.zip"] == by_file["p.parquet"] == 1
    assert min(by_file[name] for name in ("d.jsonl", "h.csv", "j.zip", "m.warc", "q.mbox")) > 1
    assert sum(part.size for part in parts) == sum(
        each.path.stat().st_size for each in found if isinstance(each, FoundFile)
    )


def cut_and_die(cut: _Cut, mark: Mark) -> Iterator[tuple[Piece, int]]:
    yield next(cut_file(cut, mark))
    os._exit(1)


@for_each("name", ["d.jsonl", "i.parquet", "j.zip"])
def test_a_file_of_which_the_cutting_dies_loses_and_doubles_nothing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    given = ReadConfig(sources=(f"in/{name}",))
    found = found_sources(given, sources)
    with monkeypatch.context() as patch, Sandbox() as cutter, Sandbox() as reader:
        patch.setattr("lmworks.corpus.read.read_parts.cut_file", cut_and_die)
        parts = read_parts(found, given, tmp_path / name, PartSizes(bytes=500, large=1), cutter)
        if name != "j.zip":  # which is read on from the item at which it ended
            with pytest.raises(UnreachableError, match=name):
                list(parts)
            return
        lines = [each.line for part in parts for each in part.given.lines(reader) if isinstance(each, DocumentLine)]
    whole = [each for each in read_documents(given, base=sources) if isinstance(each, Document)]
    assert lines == [document_to_json(each).encode() + b"\n" for each in whole]
