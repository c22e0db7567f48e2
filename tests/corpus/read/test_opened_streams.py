"""Whole files through the one function that opens them all: packed in each other, from disk, memory and pipes."""

import bz2
import gzip
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from container_cases import LIMITS, contents, flipped, kept, refused, tarred, trickle, zipped
from lmworks.corpus.read.opened_file import read_stream
from lmworks.corpus.read.record import Item, Limits, Record, Refused, Row
from lmworks.corpus.read.table_rows import Columns

ROWS = b'{"text": "one"}\n{"text": "two"}\n'


def opened(name: str, raw: bytes, limits: Limits = LIMITS, columns: Columns | None = None) -> list[Item]:
    return list(read_stream(name, io.BytesIO(raw), limits, columns))


def texts(items: list[Item]) -> dict[str, str]:
    return {item.name: item.text for item in items if isinstance(item, Row)}


def parquet_file() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"text": ["one", "two"]}), sink)
    return sink.getvalue()


FORMS = {
    "rows.jsonl": ROWS,
    "rows.csv": b"text\none\ntwo\n",
    "rows.tsv": b"text\none\ntwo\n",
    "rows.parquet": parquet_file(),
}


@pytest.mark.parametrize("name", FORMS)
def test_tables_are_read_however_they_are_packed(name: str) -> None:
    raw = FORMS[name]
    assert texts(opened(name, raw)) == {"1": "one", "2": "two"}
    assert texts(opened(f"{name}.gz", gzip.compress(raw))) == {"1": "one", "2": "two"}
    inside = {f"{name}/1": "one", f"{name}/2": "two"}
    assert texts(opened("a.zip", zipped({name: raw}))) == inside
    assert texts(opened("a.tar", tarred({name: raw}))) == inside
    assert texts(opened("a.tar.bz2", bz2.compress(tarred({name: raw})))) == inside
    packed = zipped({"b.tgz": gzip.compress(tarred({f"{name}.gz": gzip.compress(raw)}))})
    assert texts(opened("a.zip", packed)) == {f"b.tgz/{name}.gz/1": "one", f"b.tgz/{name}.gz/2": "two"}
    assert texts(list(read_stream("a.tgz", trickle(gzip.compress(tarred({name: raw})), 100)))) == inside


def test_a_file_that_is_no_container_is_one_record_without_a_name() -> None:
    assert opened("x/a.txt", b"text") == [Record("", b"text", "text/plain")]
    assert opened("x/a.txt.gz", gzip.compress(b"text")) == [Record("", b"text", "text/plain")]
    assert opened("a.txt", b"%PDF-1.7") == [Record("", b"%PDF-1.7", "application/pdf")]
    assert opened("a.txt", b"x" * 11, Limits(record_bytes=10)) == [Refused("", "larger than max_bytes = 10 bytes")]
    packed = gzip.compress(b"x" * 11)
    assert opened("a.txt.gz", packed, Limits(record_bytes=10)) == [Refused("", "larger than max_bytes = 10 bytes")]


def test_a_table_in_an_archive_may_be_larger_than_a_record() -> None:
    rows = b"".join(json.dumps({"text": "x" * 500}).encode() + b"\n" for _ in range(100))
    small = Limits(record_bytes=1000)
    for raw in (zipped({"rows.jsonl": rows}), tarred({"rows.jsonl": rows})):
        assert len(texts(opened("a", raw, small))) == 100
    (item,) = opened("a.tar", tarred({"rows.parquet": parquet_file() + bytes(1000)}), small)
    assert item == Refused(
        "rows.parquet",
        "larger than max_bytes = 1,000 bytes, and a parquet file inside another one has to fit into memory",
    )


def test_columns_reach_the_tables_inside() -> None:
    raw = zipped({"a.jsonl": b'{"body": "one"}\n'})
    assert texts(opened("a.zip", raw, columns=Columns(text="body"))) == {"a.jsonl/1": "one"}


def test_mail_in_an_archive() -> None:
    mail = b"From a@example.org Thu Feb 29 12:00:00 2024\nSubject: a\n\ntext\n\n"
    assert list(contents(opened("list.zip", zipped({"2024.txt": mail * 2})))) == ["2024.txt/1", "2024.txt/2"]


def test_containers_are_opened_as_deep_as_allowed() -> None:
    raw = zipped({"a.txt": b"a", "b.zip": zipped({"c.txt": b"c", "rows.jsonl": ROWS})})
    assert list(contents(opened("a.zip", raw))) == ["a.txt", "b.zip/c.txt"]
    one = opened("a.zip", raw, Limits(nesting=1))
    assert list(contents(one)) == ["a.txt", "b.zip/c.txt"]
    assert refused(one) == [Refused("b.zip/rows.jsonl", "a container (jsonl) deeper than the limit on nesting")]
    none = opened("a.zip", raw, Limits(nesting=0))
    assert list(contents(none)) == ["a.txt"]
    assert refused(none) == [Refused("b.zip", "a container (zip) deeper than the limit on nesting")]


def test_no_more_records_are_read_than_asked_for() -> None:
    raw = zipped({f"{number}.jsonl": ROWS for number in range(3)})
    items = opened("a.zip", raw, Limits(records=3))
    assert list(texts(items)) == ["0.jsonl/1", "0.jsonl/2", "1.jsonl/1"]
    assert refused(items) == [Refused("", "what follows the first 3 records")]


def test_a_damaged_member_costs_one_refusal_and_the_next_is_read() -> None:
    broken = gzip.compress(b"text " * 100)[:-9]
    for raw in (zipped({"a.txt.gz": broken, "b.txt": b"b"}), tarred({"a.txt.gz": broken, "b.txt": b"b"})):
        items = opened("a", raw)
        assert contents(items) == {"b.txt": b"b"}
        assert refused(items) == [Refused("a.txt.gz", "gzip data that end early")]


def test_a_crawl_whose_first_member_is_damaged_is_read_on() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>"
    header = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a/\r\nContent-Length: {len(page)}\r\n\r\n"
    member = gzip.compress(header.encode() + page + b"\r\n\r\n")
    items = opened("a.warc.gz", member[:15] + bytes(20) + member[35:] + member)
    assert contents(items) == {"http://a/": b"<p>"} and len(refused(items)) == 1


def test_a_compressed_archive_that_is_cut_off_gives_what_came_before() -> None:
    raw = gzip.compress(tarred({"a.txt": b"a" * 100, "b.txt": b"b" * 100}))
    whole = kept(opened("a.tar.gz", raw))
    for end in range(11, len(raw)):
        items = opened("a.tar.gz", raw[:end])
        assert kept(items) == whole[: len(kept(items))] and len(refused(items)) == 1, end


@pytest.mark.parametrize("name", ["a.zip", "a.gz", "a.bz2", "a.xz", "a.zst", "a.tar", "a.parquet", "a.tgz"])
@pytest.mark.parametrize("raw", [b"", b"\0", b"text that is something else"])
def test_what_is_not_what_its_name_says_is_one_refusal(name: str, raw: bytes) -> None:
    items = opened(name, raw)
    assert len(refused(items)) == 1 or (name in ("a.zst", "a.tar") and not raw.strip(b"\0"))
    assert all(not item.content for item in kept(items) if isinstance(item, Record))


@given(st.data())
def test_flipped_bytes_of_containers_in_each_other_do_no_harm(data: st.DataObject) -> None:
    raw = zipped({"a.tgz": gzip.compress(tarred({"rows.jsonl": ROWS, "b.txt": b"b"})), "c.csv": b"text\nd\n"}, 0)
    opened("a.zip", data.draw(flipped(raw)), Limits(record_bytes=10_000))


def test_a_stream_that_fails_is_one_refusal() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    items = list(read_stream("a.jsonl", Broken()))  # type: ignore[arg-type]
    assert items == [Refused("", "unreadable: Input/output error")]


@pytest.mark.parametrize("wrong", [{"record_bytes": 0}, {"ratio": 0}, {"records": -1}, {"nesting": -1}])
def test_limits_have_limits(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
