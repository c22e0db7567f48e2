"""Tables written by `json`, `csv` and pyarrow: which columns become what, and what a broken row costs."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from kit.containers import SMALL, check_cuts, items_of, kept, rejected, texts
from kit.tables import for_each
from lmworks.corpus.read.config import Columns, ReadConfig
from lmworks.corpus.read.record import Row
from lmworks.records import RejectedRecord

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def separated(rows: list[list[str]], dialect: str = "excel") -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, dialect).writerows(rows)
    return sink.getvalue().encode()


def parquet_of(columns: dict[str, Any], **settings: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, **settings)
    return sink.getvalue()


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@given(st.lists(TEXTS), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_rows_of_json_are_read_back(rows: list[str], ascii_only: bool, end: str) -> None:
    raw = "".join(json.dumps({"text": row}, ensure_ascii=ascii_only) + end for row in rows).encode()
    items = items_of("a.jsonl", b"\xef\xbb\xbf" + raw)
    assert texts(items) == rows and not rejected(items)


@for_each(
    ("date", "is_kept"),
    [
        ("2024", True), ("2024-02", True), ("2024-02-29", True), ("2024-02-29 12:00:00.5+01:00", True),
        ("2024-02-29T12:00Z", True), ("29 February 2024", False), (1709208000, False), ("2024-02-29T", False),
    ],
)  # fmt: skip
def test_dates_of_iso_8601_are_dates_and_others_metadata(date: str | int, is_kept: bool) -> None:
    columns = Columns(text="body", date="when", id="key")
    (row,) = items_of("a.jsonl", jsonl({"body": "t", "when": date, "key": "k"}), ReadConfig(columns=columns))
    assert isinstance(row, Row) and row.date == (date if is_kept else None)
    assert row.metadata == {"id": "k"} | ({} if is_kept else {"when": str(date)})


def test_a_broken_row_costs_itself() -> None:
    raw = b'{"text": "a"}\n{"text": \n{"text": 3}\n{"title": "b"}\n["text"]\n{"text": "\xff"}\n\n{"text": "c"}'
    items = items_of("a.jsonl", raw)
    assert texts(items) == ["a", "c"] and [item.uri for item in kept(items)] == ["1", "8"]
    begins = ("not JSON: ", "no text in column", "no text in column", "not a JSON object", "not UTF-8: ")
    assert [item.uri for item in rejected(items)] == ["2", "3", "4", "5", "6"]
    assert all(item.reason.startswith(begin) for item, begin in zip(rejected(items), begins, strict=True))


def test_a_line_that_is_too_long_is_read_over() -> None:
    items = items_of("a.jsonl", jsonl({"text": "a"}, {"text": "x" * 5000}, {"text": "b"}), SMALL)
    assert texts(items) == ["a", "b"] and rejected(items) == [RejectedRecord("2", "a line of more than 1,000 bytes")]
    exact = jsonl({"text": "x" * (1000 - len(jsonl({"text": ""})) + 1)})
    assert len(exact) == 1001 and not rejected(items_of("a.jsonl", exact, SMALL))  # without its end, 1,000


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.sampled_from(["excel", "excel-tab"]))
def test_tables_are_read_back(rows: list[tuple[str, str]], dialect: str) -> None:
    raw = separated([["title", "text"], *map(list, rows)], dialect)
    items = items_of("a.csv" if dialect == "excel" else "a.tsv", b"\xef\xbb\xbf" + raw)
    assert texts(items) == [text for _, text in rows] and not rejected(items)
    assert [row.title for row in kept(items)] == [title for title, _ in rows]


def test_a_quote_that_is_not_closed_swallows_no_more_than_a_record() -> None:
    raw = b'text,n\n"open,1\n' + b"row,1\n" * 1000
    items = items_of("a.csv", raw, SMALL)
    assert [item.uri for item in rejected(items)] == ["1"]
    assert 800 < len(texts(items)) < 1000 and set(texts(items)) == {"row"}
    items = items_of("a.csv", separated([["text", "n"], ["x" * 5000, "1"], ["b", "2"]]), SMALL)
    assert texts(items) == ["b"] and [item.uri for item in rejected(items)] == ["1"]


def test_a_broken_row_of_csv_costs_itself() -> None:
    raw = b'text,n\na,1\nb\nc,1,2\n"d"e,1\nf\xff,1\n\n"g\nh",1\ni,"open\n'
    items = items_of("a.csv", raw)
    assert texts(items) == ["a", "g\nh"]
    assert [item.uri for item in rejected(items)] == ["2", "3", "4", "5", "7"]


def test_of_several_columns_the_first_counts_that_holds_a_text() -> None:
    columns = Columns(text=("text", "body"))
    rows = [{"body": "a"}, {"text": "b", "body": "short"}, {"text": None, "body": "c"}, {"text": " ", "body": "d"}]
    rows += [{"text": "", "body": 1}, {"text": None, "body": [1]}, {"title": "e"}]
    items = items_of("a.jsonl", jsonl(*rows), ReadConfig(columns=columns))
    assert texts(items) == ["a", "b", "c", "d", ""]
    metadata = [item.metadata for item in items if isinstance(item, Row)]
    assert metadata == [{}, {"body": "short"}, {}, {"text": " "}, {"body": "1"}]
    assert [item.uri for item in rejected(items)] == ["6", "7"]
    for rows_of_csv, expected in (
        ([["body", "n"], ["a", "1"]], ["a"]), ([["text", "body"], ["", "a"], ["b", ""]], ["a", "b"]),
        ([["n"], ["1"]], []),
    ):  # fmt: skip
        assert texts(items_of("a.csv", separated(rows_of_csv), ReadConfig(columns=columns))) == expected


def test_columns_of_parquet_become_the_parts_of_a_document() -> None:
    row = {
        "text": "the text", "title": "A title", "date": date(2024, 2, 29), "license": "CC0-1.0", "language": "en",
        "id": 7, "score": 0.5, "good": True, "nothing": None, "amount": Decimal("1.50"), "list": [1],
        "object": {"a": 1}, "found": datetime(2024, 2, 29, 12, tzinfo=UTC), "bytes": b"x",
    }  # fmt: skip
    sink = io.BytesIO()
    table = pa.Table.from_pylist([row]).append_column("kind", pa.array(["web"]).dictionary_encode())
    parquet.write_table(table.append_column("exact", pa.array([1], pa.timestamp("ns"))), sink)
    metadata = {
        "id": "7", "score": "0.5", "good": "true", "amount": "1.50", "found": "2024-02-29T12:00:00+00:00",
        "kind": "web", "exact": "1970-01-01T00:00:00",
    }  # fmt: skip
    expected = Row("1", "the text", "A title", "2024-02-29", "CC0-1.0", "en", metadata)
    assert items_of("a.parquet", sink.getvalue()) == [expected]


def test_a_parquet_file_that_unpacks_to_too_much_is_given_up() -> None:
    raw = parquet_of({"text": ["x" * 1_000_000] * 150}, compression="zstd", row_group_size=50)
    assert len(raw) < 500_000
    items = items_of("a.parquet", raw)
    assert rejected(items) == [RejectedRecord("", "unpacks to more than 200 times its size; what follows is not read")]
    assert 0 < len(kept(items)) <= 100


@given(
    st.lists(TEXTS, max_size=30),
    st.integers(1, 10),
    st.booleans(),
    st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.string_view()]),
)
def test_a_parquet_file_is_read_back(
    rows: list[str], group: int, dictionary: bool, compression: str, kind: Any
) -> None:
    values = [row.encode() for row in rows] if kind == pa.binary() else rows
    columns = {"text": pa.array(values, kind), "n": pa.array(range(len(rows)), pa.int64())}
    raw = parquet_of(columns, row_group_size=group, use_dictionary=dictionary, compression=compression)
    items = items_of("a.parquet", raw)
    assert texts(items) == rows and not rejected(items)
    assert [item.uri for item in items] == [str(number) for number in range(1, len(rows) + 1)]
    assert [item.metadata for item in kept(items)] == [{"n": str(number)} for number in range(len(rows))]


def test_a_damaged_row_group_costs_itself() -> None:
    rows = [f"text number {number} of the table" for number in range(40)]
    raw = parquet_of(
        {"text": rows}, row_group_size=10, compression="none", write_page_checksum=True, use_dictionary=False
    )
    items = items_of("a.parquet", raw.replace(b"text number 15", b"TEXT number 15"))
    assert texts(items) == rows[:10] + rows[20:]
    assert [(item.uri, item.count) for item in rejected(items)] == [("", 10)]
    assert [item.uri for item in kept(items)][10] == "21"


def test_a_parquet_file_that_is_cut_off_is_rejected() -> None:
    raw = parquet_of({"text": ["one", "two", "three"]})
    check_cuts("a.parquet", raw, 7)
    for broken in (raw[:-1], b"", b"PAR1", b"PAR1PAR1", b"PAR1" * 100, bytes(1000)):
        (item,) = items_of("a.parquet", broken)
        assert isinstance(item, RejectedRecord) and item.reason.startswith("cannot be read as parquet: ")
