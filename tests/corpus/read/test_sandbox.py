"""What hangs, dies or fills the memory costs its own record a reason, and the others are read."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.containers import zipped
from kit.tables import for_each
from lmworks.corpus.documents import Extracted, UnusableError, document_from_json
from lmworks.corpus.extract import markup
from lmworks.corpus.read import reader
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import LISTED, lines_of, read_documents
from lmworks.corpus.read.reader import Request
from lmworks.corpus.sources.files import FoundFile
from lmworks.records import Document, RejectedRecord
from lmworks.sandbox import Mark, Sandbox, SandboxConfig, SandboxError

BOUNDS = SandboxConfig(seconds=1.0, megabytes=512)


def good(raw: bytes) -> str:
    return raw.decode()


def refusing(raw: bytes) -> str:
    raise UnusableError("no text")


def hanging(raw: bytes) -> str:
    time.sleep(60)
    raise AssertionError


def crashing(raw: bytes) -> str:
    ctypes.string_at(0)
    raise AssertionError


def leaving(raw: bytes) -> str:
    os._exit(3)


def filling(raw: bytes) -> str:
    return str(len(bytearray(1 << 30)))


def own_process(raw: bytes) -> str:
    return str(os.getpid())


def surprised(raw: bytes) -> str:
    return {}["key"]


def deep(raw: bytes) -> str:
    return deep(raw)


@pytest.fixture(scope="module")
def bounded() -> Iterator[Sandbox]:
    with Sandbox(BOUNDS) as found:
        yield found


@for_each(("function", "reason"), [
    (refusing, "no text"), (hanging, "took longer than 1 s"), (crashing, r"crashed \(SIGSEGV\)"),
    (leaving, r"crashed \(status 3\)"), (filling, "needed more than 512 MB of memory"), (surprised, "KeyError: 'key'"),
    (deep, "nested too deeply"),
])  # fmt: skip
def test_what_goes_wrong_is_a_reason_and_the_next_call_is_answered(
    bounded: Sandbox, function: Callable[[bytes], str], reason: str
) -> None:
    with pytest.raises(SandboxError, match=reason):
        bounded.call(function, b"x")
    assert bounded.call(good, b"x" * 5_000_000) == "x" * 5_000_000


def test_one_process_serves_until_it_is_closed() -> None:
    with Sandbox(BOUNDS) as found:
        (process,) = {int(found.call(own_process, b"")) for _ in range(5)}
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def counting(count: int, mark: Mark) -> Iterator[int]:
    for number in range(count):
        mark(0, number)
        if number == 7:
            raise ValueError("seven")
        yield number


def test_a_stream_is_given_as_it_comes_and_raises_what_it_raises(bounded: Sandbox) -> None:
    assert list(bounded.stream(counting, 5)) == list(range(5))
    with pytest.raises(ValueError, match="seven"):
        list(bounded.stream(counting, 9))
    assert bounded.place == (0, 7)
    assert next(bounded.stream(counting, 5)) == 0  # nobody wants the rest
    assert list(bounded.stream(counting, 3)) == list(range(3))


def deadly(content: bytes) -> Extracted:
    """An extractor that meets what it cannot stand."""
    match content.strip():
        case b"hang":
            time.sleep(60)
        case b"crash":
            ctypes.string_at(0)
    return Extracted(content.decode(), "deadly", "1")


def _deadly_file(request: Request, mark: Mark) -> Iterator[object]:
    markup.extract_plain = deadly
    yield from reader.read_files(request, mark)


def read(path: Path, found: Sandbox) -> list[tuple[str, str]]:
    """The texts or reasons of what is in a file, by name."""
    items = lines_of([FoundFile(path, "a", Path(path.name), "s")], ReadConfig(guard=BOUNDS), found)
    read = [item if isinstance(item, RejectedRecord) else document_from_json(item.line, "") for item in items]
    return [(item.uri, item.text if isinstance(item, Document) else item.reason) for item in read]


def test_a_record_that_kills_costs_itself_and_the_others_are_read(
    bounded: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmworks.corpus.read.document_reader.read_files", _deadly_file)
    names = ["one", "hang", "two", "crash", "three"]
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({f"{number}.txt": name.encode() for number, name in enumerate(names)}))
    reasons = {"hang": "reading it took longer than 1 s", "crash": "reading it crashed (SIGSEGV)"}
    assert read(path, bounded) == [(f"a/{number}.txt", reasons.get(name, name)) for number, name in enumerate(names)]


def test_a_file_of_broken_rows_is_told_in_fewer_bytes_than_it_has_rows(tmp_path: Path) -> None:
    """Each rejected record is counted, by its reason; no more than `LISTED` have a line of their own."""
    rows = ['{"text": "one"}', *("[" + " " * (number % 200) + "x" for number in range(LISTED + 2500))]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    items = list(read_documents(ReadConfig(sources=("t.jsonl",)), base=tmp_path))
    rejected = [item for item in items if isinstance(item, RejectedRecord)]
    assert len(items) - len(rejected) == 1
    assert [item.uri for item in rejected[:LISTED]] == [f"t.jsonl/{number + 2}" for number in range(LISTED)]
    others = rejected[LISTED:]
    assert {item.uri for item in others} == {"t.jsonl"} and all("listed one by one" in item.reason for item in others)
    assert sum(item.count for item in rejected) == LISTED + 2500
    assert len(others) == 101
