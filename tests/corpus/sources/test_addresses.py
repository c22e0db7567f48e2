"""Sources at addresses: what is found there, what is read of it, and what is told where that fails."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import pytest

from kit.containers import zipped
from kit.tables import for_each
from lmworks.artefact import StageContext, UnreachableError
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import outside_digest, read_documents
from lmworks.corpus.read.stage import read
from lmworks.corpus.sources.files import FoundFile, NoSourceError, find_files, is_url
from lmworks.corpus.sources.remote_objects import find_objects, open_found
from lmworks.records import Document, RejectedRecord
from lmworks.sandbox import Sandbox

FILES = {
    "b.zip": zipped({"one.txt": b"The first of two texts.", "two.txt": b"The second of two texts."}),
    "a.jsonl": b'{"text": "A row of a table."}\n',
    "deep/c.txt": b"A text in a folder.",
    "deep/.hidden/d.txt": b"A text that is hidden.",
}


class Here(Sandbox):
    """In this process, which alone sees what is in its memory."""

    def stream(self, function: Any, argument: Any, seconds: float | None = None) -> Iterator[Any]:
        return function(argument, lambda *place: None)


@pytest.fixture
def store() -> Iterator[str]:
    """An address in memory with `FILES` below it."""
    memory = fsspec.filesystem("memory")
    for name, content in FILES.items():
        memory.pipe_file(f"lmworks-test/{name}", content)
    yield "memory://lmworks-test"
    memory.rm("lmworks-test", recursive=True)


def found(*addresses: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{each.uri}: {each.reason}" if isinstance(each, RejectedRecord) else each.uri
        for each in find_objects(addresses, exclude, set())
    ]


def test_objects_folders_and_globs_are_found_in_order(store: str) -> None:
    hidden = "lmworks-test/deep/.hidden/d.txt: hidden"
    assert found(store) == ["lmworks-test/a.jsonl", "lmworks-test/b.zip", hidden, "lmworks-test/deep/c.txt"]
    assert found(f"{store}/*.zip") == ["lmworks-test/b.zip"]
    assert found(f"{store}/deep/c.txt") == ["c.txt"]
    assert found(f"{store}/a.jsonl", f"{store}/a.jsonl") == ["a.jsonl", "a.jsonl-2: already read under another name"]
    assert found(store, exclude=("*.zip", "deep/*"))[1:] == [
        "lmworks-test/b.zip: excluded by *.zip",
        "lmworks-test/deep/.hidden/d.txt: excluded by deep/*",
        "lmworks-test/deep/c.txt: excluded by deep/*",
    ]


def test_documents_are_those_of_the_same_files(store: str, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / "lmworks-test" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lmworks-test" / name).write_bytes(content)
    remote = list(read_documents(ReadConfig(sources=(store,)), sandbox=Here()))
    local = list(read_documents(ReadConfig(sources=("lmworks-test",)), base=tmp_path))
    assert {each.uri: each for each in remote if isinstance(each, Document)} == {
        each.uri: each for each in local if isinstance(each, Document)
    }
    assert sum(isinstance(each, Document) for each in remote) == 4


def test_an_address_of_this_machine_is_a_path(tmp_path: Path) -> None:
    """So a workspace is one, and what was cleaned there is not read as the files that it came from."""
    (tmp_path / "a.txt").write_text("A text on this machine.")
    assert not is_url(f"file://{tmp_path}")
    by_path, by_address = (
        [each.uri for each in read_documents(ReadConfig(sources=(source,)))]
        for source in (str(tmp_path), f"file://{tmp_path}")
    )
    assert by_path == by_address == [f"{tmp_path.name}/a.txt"]
    (tmp_path / "build.lock").touch()
    with pytest.raises(NoSourceError, match="workspace"):
        list(read_documents(ReadConfig(sources=(f"file://{tmp_path}",))))


@for_each("user", ["user:secret", "user:se@secret", "secret"])
def test_a_password_in_an_address_is_not_told(user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path := tmp_path / str(len(user))).mkdir()
    monkeypatch.setattr("lmworks.corpus.read.stage.Sandbox", Here)
    monkeypatch.setattr("lmworks.corpus.read.stage._sandbox", cache(Here))
    with pytest.raises(NoSourceError) as caught:
        found(f"memory://{user}@nowhere/a")
    assert "memory://nowhere/a" in str(caught.value) and "secret" not in str(caught.value)
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"{user}@bucket/a.bin", b"\0")
    (tmp_path / "work").mkdir()
    with pytest.raises(ValueError, match=r"memory://bucket/a\.bin: 1 × "):
        read(ReadConfig(sources=(f"memory://{user}@bucket/a.bin",)), StageContext({}, tmp_path, tmp_path / "work"))
    memory.rm(f"{user}@bucket", recursive=True)


def test_the_digest_changes_with_the_object(store: str) -> None:
    config = ReadConfig(sources=(f"{store}/deep/c.txt",))
    before = outside_digest(config, Path())
    assert outside_digest(config, Path()) == before
    fsspec.filesystem("memory").pipe_file("lmworks-test/deep/c.txt", b"Another text in it.")
    assert outside_digest(config, Path()) != before


def test_an_object_that_is_gone_or_a_dead_line_stops_the_run(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise ConnectionError("the line is dead")

    (one,) = (each for each in find_objects((f"{store}/deep/c.txt",), (), set()) if isinstance(each, FoundFile))
    with monkeypatch.context() as patch, open_found(one) as stream:
        patch.setattr("fsspec.implementations.memory.MemoryFile.read", fail)
        with pytest.raises(UnreachableError, match="ConnectionError"):
            stream.read()
    fsspec.filesystem("memory").rm("lmworks-test/deep/c.txt")
    with (
        pytest.raises(UnreachableError, match=r"deep/c.txt .*FileNotFoundError"),
        open_found(one),
    ):
        pass


def test_what_is_not_there_is_told(store: str) -> None:
    for missing in (f"{store}/none", f"{store}/*.pdf"):
        with pytest.raises(NoSourceError, match="lmworks-test"):
            found(missing)
    with pytest.raises(NoSourceError, match="nowhere://a"):
        found("nowhere://a")
    with pytest.raises(NoSourceError, match="s3://bucket/a"):
        list(find_files(("s3://bucket/a",), (), Path()))
