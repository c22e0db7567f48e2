"""Parquet files written by pyarrow: every type of column, damage, and files that are larger than they look."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from container_cases import LIMITS, SMALL, check_cuts, flipped, kept, read_all, refused, trickle
from lmworks.corpus.read.record import Item, Limits, Refused, Row
from lmworks.corpus.read.table_rows import Columns
from lmworks.corpus.read.tables import read_parquet

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


def written(columns: dict[str, Any], **settings: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, **settings)
    return sink.getvalue()


def texts(items: list[Item]) -> list[str]:
    return [item.text for item in kept(items) if isinstance(item, Row)]


@given(
    st.lists(TEXTS, max_size=30),
    st.integers(1, 10),
    st.booleans(),
    st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.string_view()]),
)
def test_a_table_is_read_back(rows: list[str], group: int, dictionary: bool, compression: str, kind: Any) -> None:
    values = [row.encode() for row in rows] if kind == pa.binary() else rows
    raw = written(
        {"text": pa.array(values, kind), "n": pa.array(range(len(rows)), pa.int64())},
        row_group_size=group,
        use_dictionary=dictionary,
        compression=compression,
    )
    items = read_all(read_parquet, raw)
    assert texts(items) == rows and not refused(items)
    assert [item.name for item in items] == [str(number) for number in range(1, len(rows) + 1)]
    assert [item.metadata for item in kept(items)] == [{"n": str(number)} for number in range(len(rows))]


def test_columns_become_the_parts_of_a_document() -> None:
    row = {
        "text": "the text", "title": "A title", "date": date(2024, 2, 29), "license": "CC0-1.0", "language": "en",
        "id": 7, "score": 0.5, "good": True, "nothing": None, "amount": Decimal("1.50"),
        "list": [1], "object": {"a": 1}, "found": datetime(2024, 2, 29, 12, tzinfo=UTC), "bytes": b"x",
    }  # fmt: skip
    sink = io.BytesIO()
    table = pa.Table.from_pylist([row]).append_column("kind", pa.array(["web"]).dictionary_encode())
    parquet.write_table(table.append_column("exact", pa.array([1], pa.timestamp("ns"))), sink)
    metadata = {
        "id": "7", "score": "0.5", "good": "true", "amount": "1.50", "found": "2024-02-29T12:00:00+00:00",
        "kind": "web", "exact": "1970-01-01T00:00:00",
    }  # fmt: skip
    expected = Row("1", "the text", "A title", "2024-02-29", "CC0-1.0", "en", metadata)
    assert read_all(read_parquet, sink.getvalue()) == [expected]


def test_columns_of_long_values_are_not_read() -> None:
    raw = written({"text": ["a", "b"], "html": ["<p>" * 1000, "<b>" * 1000], "short": ["s", "t"]}, use_dictionary=False)
    assert [item.metadata for item in kept(read_all(read_parquet, raw))] == [{"short": "s"}, {"short": "t"}]


def test_a_row_without_a_text_costs_itself() -> None:
    items = read_all(read_parquet, written({"text": ["a", None, "c" * 2000, "d"]}), SMALL)
    assert texts(items) == ["a", "d"]
    assert refused(items) == [
        Refused("2", 'no text in column "text", but nothing'),
        Refused("3", "larger than max_bytes = 1,000 characters (2,000)"),
    ]


def test_bytes_that_are_no_text_cost_their_row() -> None:
    items = read_all(read_parquet, written({"text": [b"a", b"\xff", b"c"]}))
    assert texts(items) == ["a", "c"] and refused(items)[0].reason.startswith("a damaged text: ")


def test_a_table_without_texts_says_what_it_has() -> None:
    (item,) = read_all(read_parquet, written({"content": ["a"], "url": ["b"]}))
    assert item == Refused("", 'no column "text"; found: content, url: set columns.text to the one that holds the text')
    (item,) = read_all(read_parquet, written({"text": [1]}))
    assert item == Refused("", 'column "text" holds no texts, but values of type int64')
    assert texts(read_all(read_parquet, written({"body": ["a"]}), LIMITS, Columns(text="body"))) == ["a"]


def test_a_text_that_is_repeated_takes_its_memory_once() -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), ["x" * 500_000])
    raw = written({"text": text}, compression="zstd", store_schema=False)  # read back as a column of strings
    assert len(raw) < 10_000
    before = pa.total_allocated_bytes()
    allocated = []
    for item in read_parquet(io.BytesIO(raw), LIMITS):
        assert isinstance(item, Row) and len(item.text) == 500_000
        allocated.append(pa.total_allocated_bytes() - before)
    assert len(allocated) == 200 and max(allocated) < 50_000_000


def test_a_row_group_of_any_size_takes_the_memory_of_some_rows() -> None:
    """Writers begin with a list of texts and give it up: what follows stands for itself, and is in no list."""
    rows = [f"{number} " * 1000 for number in range(8000)]
    raw = written({"text": rows}, row_group_size=8000, compression="zstd")
    before = pa.total_allocated_bytes()
    peak = 0
    for item, text in zip(read_parquet(io.BytesIO(raw), LIMITS), rows, strict=True):
        assert isinstance(item, Row) and item.text == text
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 20_000_000 < sum(map(len, rows)) / 1.9  # a batch, and what decodes it


def test_a_row_group_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmworks.corpus.read.parquet._FREE", 1_000_000)
    raw = written({"text": ["x" * 600_000, "y" * 600_000]}, compression="zstd", use_dictionary=False)
    (item,) = read_all(read_parquet, raw)
    assert item == Refused("", "a row group that unpacks to more than 200 times its size", 2)
    assert len(read_all(read_parquet, raw, Limits(ratio=10**6))) == 2


def test_a_stream_that_cannot_be_sought_is_refused() -> None:
    (item,) = read_parquet(trickle(written({"text": ["a"]})), LIMITS)
    assert isinstance(item, Refused) and "cannot be sought: store it as a file" in item.reason


def test_a_damaged_row_group_costs_itself() -> None:
    rows = [f"text number {number} of the table" for number in range(40)]
    raw = written({"text": rows}, row_group_size=10, compression="none", write_page_checksum=True, use_dictionary=False)
    items = read_all(read_parquet, raw.replace(b"text number 15", b"TEXT number 15"))
    assert texts(items) == rows[:10] + rows[20:]
    assert [(item.name, item.count) for item in refused(items)] == [("", 10)]
    assert [item.name for item in kept(items)][10] == "21"


def test_cut_off_anywhere_it_is_refused() -> None:
    raw = written({"text": ["one", "two", "three"]})
    check_cuts(read_parquet, raw, 7)
    (item,) = read_all(read_parquet, raw[:-1])
    assert isinstance(item, Refused) and item.reason.startswith("a damaged Parquet file: ")


@given(st.data(), st.booleans())
def test_flipped_bytes_do_no_harm(data: st.DataObject, checksum: bool) -> None:
    raw = written({"text": ["one", "two", "three"] * 9, "n": list(range(27))}, write_page_checksum=checksum)
    read_all(read_parquet, data.draw(flipped(raw)), SMALL)


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" * 100, bytes(1000)])
def test_what_is_no_parquet_file_is_refused(raw: bytes) -> None:
    (item,) = read_all(read_parquet, raw)
    assert isinstance(item, Refused) and item.reason.startswith("a damaged Parquet file: ")


def test_of_several_columns_the_first_counts_that_holds_a_text() -> None:
    """One that is too long to be metadata is read, and one that holds no texts stands in nobody's way."""
    columns = Columns(text=("text", "content", "body"))
    long = "long " * 500
    raw = written({"content": pa.array([None, "b"]), "body": [long, long], "text": pa.array([[1], [2]])})
    assert texts(read_all(read_parquet, raw, LIMITS, columns)) == [long, "b"]
    assert texts(read_all(read_parquet, raw, LIMITS, Columns(text=("body", "content")))) == [long, long]
    assert refused(read_all(read_parquet, raw)) == [
        Refused("", 'column "text" holds no texts, but values of type list<element: int64>')
    ]
