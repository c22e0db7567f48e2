"""Tables of texts: JSON Lines, CSV, TSV and Parquet. A row that is broken costs itself a refusal."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from lmworks.corpus.read.container import contained
from lmworks.corpus.read.parquet import parquet_rows
from lmworks.corpus.read.record import Item, Limits, Refused, Row
from lmworks.corpus.read.streams import PIECE, head_of
from lmworks.corpus.read.table_rows import Columns, no_text_column, row_of

_UTF_8_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_IN_UTF_16 = "in UTF-16: convert it, such as by `iconv -f utf-16 -t utf-8`"
_TRIED = 100  # lines, before a file counts as no JSON Lines at all


@contained
def read_jsonl(stream: io.BufferedReader, limits: Limits, columns: Columns | None = None) -> Iterator[Item]:
    """A JSON object a line (jsonlines.org), in UTF-8; a row is called by the number of its line, from 1.

    A file that is no such table (one JSON value over many lines, no column of text in the first row) is one refusal.
    """
    yield from jsonl_rows(stream, limits, columns or Columns())


def jsonl_begins(stream: io.BufferedReader, limits: Limits, columns: Columns) -> int | None:
    """Behind which byte every line speaks for itself: the end of the first row. None where there is no row, or the
    file is refused as a whole."""
    for item in jsonl_rows(stream, limits, columns):
        if isinstance(item, Row):
            return stream.tell()
        if not item.name:
            return None
    return None


def jsonl_rows(stream: io.BufferedReader, limits: Limits, columns: Columns, before: int = 0) -> Iterator[Row | Refused]:
    """As `read_jsonl`; `before` is the number of lines before the stream, where it is a part of a file that has a row
    before it."""
    if not before and head_of(stream).startswith(_UTF_16_MARKS):
        yield Refused("", _IN_UTF_16)
        return
    first, broken = not before, 0
    for number, line in _lines(stream, limits.record_bytes, before):
        name = str(number)
        if line is None:
            yield Refused(name, f"a line of more than {limits.record_bytes:,} bytes")
            continue
        if number == 1:
            line = line.removeprefix(_UTF_8_MARK)
        if not (line := line.strip()):
            continue
        if first and (reason := _not_lines(line)):
            yield Refused("", reason)
            return
        row = _parsed(line)
        if isinstance(row, str):
            yield Refused(name, row)
            broken += 1
            if first and broken == _TRIED:
                yield Refused("", f"none of the first {_TRIED} lines holds a JSON object")
                return
            continue
        if first and not columns.has_text(row):
            yield no_text_column(row, columns)
            return
        first = False
        yield row_of(name, row, columns, limits)


@contained
def read_csv(
    stream: io.BufferedReader, limits: Limits, columns: Columns | None = None, dialect: str = "excel"
) -> Iterator[Item]:
    """Comma-separated values with a header (RFC 4180), in UTF-8; a row is called by its number, from 1 behind it.

    `dialect` is one of the module `csv`. A table without a column of text, or in UTF-16, is one refusal.
    """
    columns = columns or Columns()
    if head_of(stream).startswith(_UTF_16_MARKS):
        yield Refused("", _IN_UTF_16)
        return
    source = _CsvLines(stream, limits.record_bytes)
    reader = csv.reader(source, dialect, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        source.begin()
        try:
            row = _next_row(reader, limits.record_bytes)
        except StopIteration:
            break
        except (csv.Error, _BrokenLineError) as error:
            row, reason = None, str(error)
        else:
            reason = "" if source.is_utf_8 else "not UTF-8"
        if row == []:  # an empty line
            continue
        if header is None:
            if row is None or reason or not columns.has_text(row):
                yield no_text_column(row or (), columns) if not reason else Refused("", f"no header: {reason}")
                return
            header = row
            continue
        number += 1
        if reason or row is None:
            yield Refused(str(number), reason)
        elif len(row) != len(header):
            yield Refused(str(number), f"{len(row)} fields, where the header has {len(header)}")
        else:
            yield row_of(str(number), dict(zip(header, row, strict=True)), columns, limits)


@contained
def read_tsv(stream: io.BufferedReader, limits: Limits, columns: Columns | None = None) -> Iterator[Item]:
    """Tab-separated values with a header, quoted as in CSV."""
    yield from read_csv(stream, limits, columns, "excel-tab")


@contained
def read_parquet(stream: io.BufferedReader, limits: Limits, columns: Columns | None = None) -> Iterator[Item]:
    """Apache Parquet; a row is called by its number, from 1. Needs a stream that can be sought."""
    if not stream.seekable():
        yield Refused("", "a Parquet file is read from its end, and this stream cannot be sought: store it as a file")
        return
    yield from parquet_rows(stream, limits, columns or Columns())


def _lines(stream: io.BufferedReader, limit: int, before: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers, from 1 behind `before`; None for one of more than `limit` bytes, which is read over."""
    number = before
    while line := stream.readline(limit + 1):
        number += 1
        if len(line) > limit and not line.endswith(b"\n"):
            _to_the_end_of_the_line(stream)
            yield number, None
        else:
            yield number, line


def _parsed(line: bytes) -> dict[str, Any] | str:
    """The object, or why there is none."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"not a JSON object, but a value of type {type(row).__name__}"


def _to_the_end_of_the_line(stream: io.BufferedReader) -> None:
    while (rest := stream.readline(PIECE)) and not rest.endswith(b"\n"):
        pass


def _not_lines(line: bytes) -> str:
    """What is wrong with a file whose first line this is, as a whole."""
    if line.startswith(b"["):
        return "a JSON array, not an object a line: convert it, such as by `jq -c '.[]' in.json > out.jsonl`"
    if line == b"{":
        return "one JSON value over many lines, not one a line: convert it, such as by `jq -c . in.json > out.jsonl`"
    return ""


class _BrokenLineError(ValueError):
    """A line that is too long, or in a row that is."""


class _CsvLines:
    """The lines that a row is made of, for `csv.reader`: as many as its quotes reach over, and no more than fit."""

    def __init__(self, stream: io.BufferedReader, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._taken = 0
        self._first = True
        self.is_utf_8 = True

    def begin(self) -> None:
        """A row begins."""
        self._taken = 0
        self.is_utf_8 = True

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._limit - self._taken + 1)
        if not line:
            raise StopIteration
        self._taken += len(line)
        if self._taken > self._limit:
            if not line.endswith(b"\n"):
                _to_the_end_of_the_line(self._stream)
            raise _BrokenLineError(f"a row of more than {self._limit:,} bytes: a quote may not be closed")
        if self._first:
            line, self._first = line.removeprefix(_UTF_8_MARK), False
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.is_utf_8 = False
            return line.decode(errors="replace")


def _next_row(reader: Any, limit: int) -> list[str]:
    """The next row, with fields as large as a record may be. The limit of the module `csv` is one for all of a process
    and is put back; its default of 131,072 characters is less than many texts have."""
    before = csv.field_size_limit(min(limit, 2**31 - 1))
    try:
        return next(reader)
    finally:
        csv.field_size_limit(before)
