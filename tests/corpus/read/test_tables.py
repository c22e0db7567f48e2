"""JSON Lines, CSV and TSV, written by `json` and `csv`; which columns become what, and what a broken row costs."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_cases import LIMITS, SMALL, check_cuts, flipped, kept, read_all, refused, trickle
from lmworks.corpus.read.record import Item, Limits, Refused, Row
from lmworks.corpus.read.table_rows import Columns
from lmworks.corpus.read.tables import read_csv, read_jsonl, read_tsv

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def written(rows: list[list[str]], dialect: str = "excel") -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, dialect).writerows(rows)
    return sink.getvalue().encode()


def texts(items: list[Item]) -> list[str]:
    return [item.text for item in kept(items) if isinstance(item, Row)]


# ---------------------------------------------------------------------------------------------------------------------
# JSON Lines


@given(st.lists(TEXTS), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_rows_of_json_are_read_back(rows: list[str], ascii_only: bool, end: str) -> None:
    raw = "".join(json.dumps({"text": row}, ensure_ascii=ascii_only) + end for row in rows).encode()
    items = read_all(read_jsonl, raw)
    assert texts(items) == rows and not refused(items)


def test_columns_become_the_parts_of_a_document() -> None:
    row = {
        "text": "the text", "title": "A title", "date": "2024-02-29T12:00:00Z", "license": "CC0-1.0", "language": "en",
        "id": 7, "score": 0.5, "good": True, "nothing": None, "empty": "", "long": "x" * 201, "short": "x" * 200,
        "list": [1], "object": {"a": 1}, "infinite": float("inf"),
    }  # fmt: skip
    metadata = {"id": "7", "score": "0.5", "good": "true", "short": "x" * 200}
    expected = Row("1", "the text", "A title", "2024-02-29T12:00:00Z", "CC0-1.0", "en", metadata)
    assert read_all(read_jsonl, jsonl(row)) == [expected]


def test_columns_may_have_other_names() -> None:
    columns = Columns(text="body", title="head", date="when", licence="terms", language="lang", id="key")
    row = {"body": "b", "head": "h", "when": "2024", "terms": "t", "lang": "l", "key": "k", "text": "another"}
    expected = Row("1", "b", "h", "2024", "t", "l", {"text": "another", "id": "k"})
    assert read_all(read_jsonl, jsonl(row), LIMITS, columns) == [expected]


@pytest.mark.parametrize("date", ["2024", "2024-02", "2024-02-29", "2024-02-29 12:00:00.5+01:00", "2024-02-29T12:00Z"])
def test_dates_of_iso_8601_are_dates(date: str) -> None:
    (row,) = read_all(read_jsonl, jsonl({"text": "t", "date": date}))
    assert isinstance(row, Row) and (row.date, row.metadata) == (date, {})


@pytest.mark.parametrize("date", ["29 February 2024", "29.2.2024", 1709208000, "2024-02-29T"])
def test_other_dates_are_kept_as_they_are(date: str | int) -> None:
    (row,) = read_all(read_jsonl, jsonl({"text": "t", "date": date}))
    assert isinstance(row, Row) and (row.date, row.metadata) == (None, {"date": str(date)})


def test_a_broken_row_costs_itself() -> None:
    raw = b'{"text": "a"}\n{"text": \n{"text": 3}\n{"title": "b"}\n["text"]\n{"text": "\xff"}\n\n{"text": "c"}'
    items = read_all(read_jsonl, raw)
    assert texts(items) == ["a", "c"] and [item.name for item in kept(items)] == ["1", "8"]
    reasons = {item.name: item.reason for item in refused(items)}
    assert list(reasons) == ["2", "3", "4", "5", "6"]
    assert reasons["2"].startswith("not JSON: ")
    assert reasons["3"] == 'no text in column "text", but a value of type int'
    assert reasons["4"] == 'no text in column "text", but nothing'
    assert reasons["5"] == "not a JSON object, but a value of type list"
    assert reasons["6"] == "not UTF-8: invalid start byte at byte 10"


def test_nesting_without_end_is_a_broken_row() -> None:
    items = read_all(read_jsonl, jsonl({"text": "a"}) + b'{"text": ' + b"[" * 100_000 + b"\n" + jsonl({"text": "b"}))
    assert texts(items) == ["a", "b"] and [item.name for item in refused(items)] == ["2"]


def test_a_table_without_texts_says_what_it_has() -> None:
    (item,) = read_all(read_jsonl, jsonl({"content": "a", "url": "b"}) * 3)
    assert item == Refused("", 'no column "text"; found: content, url: set columns.text to the one that holds the text')
    (item,) = read_all(read_jsonl, jsonl({"messages": []}))
    assert isinstance(item, Refused) and item.reason.endswith("these are conversations, which data.tokenize takes")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (json.dumps([{"text": "a"}, {"text": "b"}]).encode(), "a JSON array, not an object a line: convert it"),
        (b"[\n" + jsonl({"text": "a"}), "a JSON array"),
        (json.dumps({"text": "a"}, indent=2).encode(), "one JSON value over many lines"),
        ('{"text": "a"}\n'.encode("utf-16"), "in UTF-16: convert it"),
    ],
)
def test_other_json_is_refused_with_what_to_do(raw: bytes, reason: str) -> None:
    (item,) = read_all(read_jsonl, raw)
    assert isinstance(item, Refused) and item.name == "" and item.reason.startswith(reason)


def test_a_file_of_something_else_is_given_up() -> None:
    items = read_all(read_jsonl, b"no JSON at all\n" * 1000)
    assert len(items) == 101 and items[-1] == Refused("", "none of the first 100 lines holds a JSON object")


def test_a_mark_of_utf_8_is_no_text() -> None:
    assert texts(read_all(read_jsonl, b"\xef\xbb\xbf" + jsonl({"text": "a"}))) == ["a"]
    assert texts(read_all(read_csv, b"\xef\xbb\xbf" + written([["text", "n"], ["a", "1"]]))) == ["a"]


def test_halves_of_surrogate_pairs_are_replaced_and_told() -> None:
    (row,) = read_all(read_jsonl, b'{"text": "cut \\ud83d", "title": "\\ude00", "whole": "\\ud83d\\ude00"}\n')
    assert row == Row("1", "cut \ufffd", "\ufffd", metadata={"whole": "😀", "lone_surrogates": "1"})


def test_a_line_that_is_too_long_is_read_over() -> None:
    items = read_all(read_jsonl, jsonl({"text": "a"}, {"text": "x" * 5000}, {"text": "b"}), SMALL)
    assert texts(items) == ["a", "b"] and refused(items) == [Refused("2", "a line of more than 1,000 bytes")]
    exact = jsonl({"text": "x" * (1000 - len(jsonl({"text": ""})) + 1)})
    assert len(exact) == 1001 and not refused(read_all(read_jsonl, exact, SMALL))  # without its end, 1,000


def test_json_lines_that_are_cut_off_or_damaged() -> None:
    check_cuts(read_jsonl, jsonl({"text": "one"}, {"text": "two", "n": 2}, {"text": "three"}))


@given(st.data())
def test_flipped_bytes_do_no_harm(data: st.DataObject) -> None:
    read_all(read_jsonl, data.draw(flipped(jsonl({"text": "one", "date": "2024"}, {"text": "two"}))), SMALL)
    read_all(read_csv, data.draw(flipped(written([["text", "n"], ["one", "1"], ['"two"\n', "2"]]))), SMALL)


# ---------------------------------------------------------------------------------------------------------------------
# CSV and TSV


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.sampled_from(["excel", "excel-tab"]))
def test_tables_are_read_back(rows: list[tuple[str, str]], dialect: str) -> None:
    raw = written([["title", "text"], *map(list, rows)], dialect)
    items = list((read_csv if dialect == "excel" else read_tsv)(trickle(raw, 64), LIMITS))
    assert texts(items) == [text for _, text in rows] and not refused(items)
    assert [row.title for row in kept(items)] == [title for title, _ in rows]


def test_fields_may_be_larger_than_the_module_allows_by_default() -> None:
    before = csv.field_size_limit()
    items = read_all(read_csv, written([["text"], ["x" * 1_000_000], ["y"]]))
    assert texts(items) == ["x" * 1_000_000, "y"]
    assert csv.field_size_limit() == before == 131072


def test_a_broken_row_of_csv_costs_itself() -> None:
    raw = b'text,n\na,1\nb\nc,1,2\n"d"e,1\nf\xff,1\n\n"g\nh",1\ni,"open\n'
    items = read_all(read_csv, raw)
    assert texts(items) == ["a", "g\nh"]
    assert [(item.name, item.reason) for item in refused(items)] == [
        ("2", "1 fields, where the header has 2"),
        ("3", "3 fields, where the header has 2"),
        ("4", "',' expected after '\"'"),
        ("5", "not UTF-8"),
        ("7", "unexpected end of data"),
    ]


def test_a_quote_that_is_not_closed_swallows_no_more_than_a_record() -> None:
    raw = b'text,n\n"open,1\n' + b"row,1\n" * 1000
    items = read_all(read_csv, raw, SMALL)
    assert refused(items) == [Refused("1", "a row of more than 1,000 bytes: a quote may not be closed")]
    assert 800 < len(texts(items)) < 1000 and set(texts(items)) == {"row"}


def test_a_line_of_csv_that_is_too_long_is_read_over() -> None:
    items = read_all(read_csv, written([["text", "n"], ["x" * 5000, "1"], ["b", "2"]]), SMALL)
    assert texts(items) == ["b"] and [item.name for item in refused(items)] == ["1"]


@pytest.mark.parametrize("raw", [b"a,b\nc,d\n", b"Text\nx\n", b""])
def test_a_table_without_a_header_of_texts_is_refused(raw: bytes) -> None:
    items = read_all(read_csv, raw)
    assert all(isinstance(item, Refused) and 'no column "text"; found: ' in item.reason for item in items)
    assert len(items) == (1 if raw else 0)


def test_excel_in_utf_16_is_refused_with_what_to_do() -> None:
    (item,) = read_all(read_tsv, "text\tn\na\t1\n".encode("utf-16"))
    assert item == Refused("", "in UTF-16: convert it, such as by `iconv -f utf-16 -t utf-8`")


def test_no_more_rows_are_read_than_asked_for() -> None:
    items = read_all(read_csv, written([["text"], ["a"], ["b"], ["c"]]), Limits(records=2))
    assert texts(items) == ["a", "b"] and refused(items) == [Refused("", "what follows the first 2 records")]


@pytest.mark.parametrize("text", ["", (), ("text", "")])
def test_columns_need_a_text(text: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="the one that holds the text"):
        Columns(text=text)


def test_of_several_columns_the_first_counts_that_holds_a_text() -> None:
    columns = Columns(text=("text", "body"))
    rows = [{"body": "a"}, {"text": "b", "body": "short"}, {"text": None, "body": "c"}, {"text": " ", "body": "d"}]
    rows += [{"text": "", "body": 1}, {"text": None, "body": [1]}, {"title": "e"}]
    items = read_all(read_jsonl, jsonl(*rows), LIMITS, columns)
    assert texts(items) == ["a", "b", "c", "d", ""]
    assert [item.metadata for item in items if isinstance(item, Row)] == [
        {},
        {"body": "short"},
        {},
        {"text": " "},
        {"body": "1"},
    ]
    assert refused(items) == [
        Refused("6", 'no text in column "text" or "body", but a value of type list'),
        Refused("7", 'no text in column "text" or "body", but nothing'),
    ]
    assert texts(read_all(read_csv, written([["body", "n"], ["a", "1"]]), LIMITS, columns)) == ["a"]
    assert texts(read_all(read_csv, written([["text", "body"], ["", "a"], ["b", ""]]), LIMITS, columns)) == ["a", "b"]
    (item,) = read_all(read_csv, written([["n"], ["1"]]), LIMITS, columns)
    assert isinstance(item, Refused) and item.reason.startswith('no column "text" or "body"; found: n')
