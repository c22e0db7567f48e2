"""Tables cut anywhere give what they give as a whole."""

import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from container_cases import LIMITS, SMALL
from lmworks.corpus.read.byte_ranges import Stretch, read_stretch, stretches_of
from lmworks.corpus.read.opened_file import read_stream
from lmworks.corpus.read.record import Item, Limits
from lmworks.corpus.read.table_rows import Columns

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
ROWS = st.builds(
    lambda text, more: json.dumps({"text": text} | more).encode(), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2)
)
LINES = st.one_of(
    ROWS,
    st.sampled_from(
        [b"", b"  ", b"\r", b"{", b"[1]", b"7", b"{]", b'{"other": "x"}', b'{"text": 5}', b'{"text": "\xff"}']
    ),
    st.integers(SMALL.record_bytes - 1, 3 * SMALL.record_bytes).map(lambda size: b'{"text": "%s"}' % (b"x" * size)),
    st.binary(max_size=20),
)
FILES = st.builds(
    lambda mark, lines, end: mark + b"\n".join(lines) + end,
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]),
    st.lists(LINES, max_size=12),
    st.sampled_from([b"", b"\n", b"\r\n", b"\n\n\n"]),
)
SIZES = st.one_of(st.integers(1, 40), st.integers(40, 4000))


def whole(name: str, raw: bytes, limits: Limits) -> list[Item]:
    return list(read_stream(name, io.BytesIO(raw), limits))


def cut(name: str, raw: bytes, limits: Limits, size: int) -> list[Stretch] | None:
    found = stretches_of(name, io.BufferedReader(io.BytesIO(raw)), limits, Columns(), size)
    return None if found is None else list(found)


def joined(stretches: list[Stretch], raw: bytes, limits: Limits) -> list[Item]:
    return [
        item
        for stretch in stretches
        for item in read_stretch(io.BufferedReader(io.BytesIO(raw)), stretch, limits, Columns())
    ]


@given(FILES, SIZES)
def test_lines_give_the_same_wherever_they_are_cut(raw: bytes, size: int) -> None:
    stretches = cut("a.jsonl", raw, SMALL, size)
    if stretches is None:  # then there is nothing to win: no line of it is a row, or it is refused as a whole
        assert not any(item.name and hasattr(item, "text") for item in whole("a.jsonl", raw, SMALL))
        return
    assert joined(stretches, raw, SMALL) == whole("a.jsonl", raw, SMALL)
    assert [stretch.start for stretch in stretches] == [0, *(stretch.end for stretch in stretches[:-1])]
    assert sum(stretch.size for stretch in stretches) == stretches[-1].end == len(raw)


def test_stretches_have_the_size_that_was_asked_for() -> None:
    raw = b"".join(b'{"text": "%d"}\n' % number for number in range(100_000))
    stretches = cut("a.jsonl", raw, LIMITS, 100_000)
    assert stretches is not None
    assert {stretch.size // 1000 for stretch in stretches[:-1]} == {100} and stretches[-1].size <= 100_020
    assert [stretch.before for stretch in stretches] == [raw.count(b"\n", 0, stretch.start) for stretch in stretches]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.jsonl", b'[\n{"text": "x"}]'),
        ("a.jsonl", b'{"body": "x"}\n' * 9),
        ("a.jsonl", b"x\n" * 200),
        ("a.csv", b"text\nx\n"),
    ],
)
def test_what_is_no_such_table_is_not_cut(name: str, raw: bytes) -> None:
    assert cut(name, raw, LIMITS, 1) is None


def table(texts: list[str | None], rows: int) -> bytes:
    sink = io.BytesIO()
    more = pa.array(range(len(texts)), pa.int64())
    parquet.write_table(pa.table({"text": pa.array(texts, pa.string()), "id": more}), sink, row_group_size=rows)
    return sink.getvalue()


@given(
    st.lists(st.none() | TEXTS, min_size=1, max_size=30),
    st.integers(1, 7),
    st.integers(1, 2000),
    st.booleans(),
    st.data(),
)
def test_row_groups_give_the_same_however_they_are_put_together(
    texts: list[str | None], rows: int, size: int, damaged: bool, data: st.DataObject
) -> None:
    raw = bytearray(table(texts, rows))
    if damaged:  # the pages, and not the list of them at the end
        raw[data.draw(st.integers(4, min(40, len(raw) - 1)))] ^= 255
    stretches = cut("a.parquet", bytes(raw), LIMITS, size)
    assert stretches is not None
    assert joined(stretches, bytes(raw), LIMITS) == whole("a.parquet", bytes(raw), LIMITS)
    assert sum(stretch.size for stretch in stretches) == len(raw)
    assert len(stretches) == -(-len(texts) // rows) or size > 1


def test_a_file_without_row_groups_is_not_cut() -> None:
    sink = io.BytesIO()
    parquet.ParquetWriter(sink, pa.schema([("text", pa.string())])).close()
    assert cut("a.parquet", sink.getvalue(), LIMITS, 1) is None
