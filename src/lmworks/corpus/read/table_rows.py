"""Tables of texts: JSON Lines, CSV, TSV and Parquet. A row that is broken costs itself a rejected record."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from numbers import Number
from typing import Any

from lmworks.corpus.extract.charset import well_formed
from lmworks.corpus.read.byte_budget import FATAL, PIECE, ByteBudget, head_of
from lmworks.corpus.read.config import Columns
from lmworks.corpus.read.record import Item, Row, reason_of
from lmworks.records import RejectedRecord, column_key

NO_COLUMN = "no column"  # begins the reason for which a table without texts is left out
_SHORT = 200  # characters of a value that goes into the metadata
_LISTED = 20  # columns in a message
_TRIED = 100  # lines, before a file counts as no JSON Lines at all
_BATCH_ROWS = 256  # of Parquet
_SCALAR = re.compile(r"(?:bool|u?int\d|halffloat|float|double|decimal|date|timestamp|(?:large_)?string)")  # types
_TEXT = re.compile(r"(?:large_)?string|string_view|(?:large_)?binary")  # some writers forget to say that bytes are text
_ISO_DATE = re.compile(
    r"\d{4}(?:-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s?(?:Z|[+-]\d\d:?\d\d)?)?)?)?", re.ASCII
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF_8_MARK, _UTF_16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_IN_UTF_16 = RejectedRecord("", "in UTF-16: convert it, such as by `iconv -f utf-16 -t utf-8`")


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def row_of(name: str, values: Mapping[str, Any], columns: Columns, budget: ByteBudget) -> Row | RejectedRecord:
    """The row of these values.

    A date that is no ISO 8601 goes into the metadata under its own name, as do all other numbers, booleans and texts of
    at most 200 characters; lists and objects are left behind. `id` is in the metadata, since it need not be unique.
    Names that lmworks notes other things under are changed: `column_key`.
    """
    texts = [column for column in columns.texts if isinstance(values.get(column), str)]
    if not texts:
        found = next((value for column in columns.texts if (value := values.get(column)) is not None), None)
        kind = "nothing" if found is None else f"a value of type {type(found).__name__}"
        return RejectedRecord(name, f"no text in column {_quoted(columns)}, but {kind}")
    column = next((each for each in texts if values[each] and not values[each].isspace()), texts[0])
    text: str = values[column]
    if len(text) > budget.record_bytes:
        return RejectedRecord(name, f"larger than max_bytes = {budget.record_bytes:,} characters ({len(text):,})")
    others = _others(columns)
    parts = {part: well_formed(_short(values[part])) for part in others if part in values}
    metadata = {
        well_formed(column_key(key)): well_formed(short)
        for key, value in values.items()
        if key != column and key not in others and (short := _short(value))
    }
    title, when, licence, language, identifier = [parts.get(part, "") for part in others]
    if identifier:
        metadata["id"] = identifier
    if when and not _ISO_DATE.fullmatch(when):
        metadata[well_formed(column_key(columns.date))], when = when, ""
    clean = well_formed(text)
    if clean is not text:
        metadata["lone_surrogates"] = str(len(_SURROGATE.findall(text)))
    return Row(name, clean, title, when or None, licence or None, language or None, metadata)


def _others(columns: Columns) -> tuple[str, ...]:
    return columns.title, columns.date, columns.licence, columns.language, columns.id


def _quoted(columns: Columns) -> str:
    return " or ".join(f'"{name}"' for name in columns.texts)


def _short(value: Any) -> str:
    """A scalar as text; "" for what is none, is empty, or is too long."""
    if isinstance(value, str):
        return value if len(value) <= _SHORT else ""
    if value is None:  # the most frequent
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and abs(value) >= 10**_SHORT):
        return ""
    return str(value) if isinstance(value, Number) else ""


def _no_text_column(found: Iterable[str], columns: Columns) -> RejectedRecord | None:
    """For a table without texts."""
    names = list(found)
    if any(name in names for name in columns.texts):
        return None
    listed = ", ".join(well_formed(name if len(name) <= 40 else name[:39] + "…") for name in names[:_LISTED])
    listed += ", …" if len(names) > _LISTED else ""
    hint = "; these are conversations, which data.tokenize takes" if "messages" in names else ""
    fix = f"set columns.text to the one that holds the text{hint}"
    return RejectedRecord("", f"{NO_COLUMN} {_quoted(columns)}; found: {listed or 'none'}: {fix}")


# ---------------------------------------------------------------------------------------------------------------------
# JSON Lines


def read_jsonl(
    stream: io.BufferedReader, budget: ByteBudget, columns: Columns, before: int = 0, size: int | None = None
) -> Iterator[Row | RejectedRecord]:
    """A JSON object a line (jsonlines.org), in UTF-8; a row is called by the number of its line, from 1.

    A file that is no such table (one JSON value over many lines, no column of text in the first row) is one rejected
    record. `before` is the number of lines before the stream, where that is the next `size` bytes of a file that has a
    row before them.
    """
    if not before and head_of(stream).startswith(_UTF_16_MARKS):
        yield _IN_UTF_16
        return
    first, broken = not before, 0
    for number, line in enumerate(_lines(stream, budget.record_bytes, size), before + 1):
        name = str(number)
        if line is None:
            yield RejectedRecord(name, f"a line of more than {budget.record_bytes:,} bytes")
            continue
        line = (line.removeprefix(_UTF_8_MARK) if number == 1 else line).strip()
        if not line:
            continue
        if first and (reason := _not_lines(line)):
            yield RejectedRecord("", reason)
            return
        row = _parsed(line)
        if isinstance(row, str):
            yield RejectedRecord(name, row)
            broken += 1
            if first and broken == _TRIED:
                yield RejectedRecord("", f"none of the first {_TRIED} lines holds a JSON object")
                return
            continue
        if first and (rejected := _no_text_column(row, columns)):
            yield rejected
            return
        first = False
        yield row_of(name, row, columns, budget)


def _lines(stream: io.BufferedReader, limit: int, size: int | None) -> Iterator[bytes | None]:
    """The lines of the next `size` bytes; None for one of more than `limit` bytes, which is read over."""
    taken = 0
    while (size is None or taken < size) and (line := stream.readline(limit + 1)):
        taken += len(line)
        is_long = len(line) > limit and not line.endswith(b"\n")
        yield None if is_long else line
        while is_long and (rest := stream.readline(PIECE)):
            taken += len(rest)
            is_long = not rest.endswith(b"\n")


def _not_lines(line: bytes) -> str:
    """The reason to reject a whole file whose first line this is; "" for JSON Lines."""
    if line.startswith(b"["):
        return "a JSON array, not an object a line: convert it, such as by `jq -c '.[]' in.json > out.jsonl`"
    if line == b"{":
        return "one JSON value over many lines, not one a line: convert it, such as by `jq -c . in.json > out.jsonl`"
    return ""


def _parsed(line: bytes) -> dict[str, Any] | str:
    """The object, or why there is none."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"not a JSON object, but a value of type {type(row).__name__}"


# ---------------------------------------------------------------------------------------------------------------------
# CSV


def read_csv(stream: io.BufferedReader, budget: ByteBudget, columns: Columns, dialect: str = "excel") -> Iterator[Item]:
    """Comma-separated values with a header (RFC 4180), in UTF-8; a row is called by its number, from 1 behind it.

    `dialect` is one of the module `csv`. A table without a column of text, or in UTF-16, is one rejected record.
    """
    if head_of(stream).startswith(_UTF_16_MARKS):
        yield _IN_UTF_16
        return
    csv.field_size_limit(min(budget.record_bytes, 2**31 - 1))  # of this process, which is the sandbox's
    lines = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="\n")
    header: list[str] = []
    number = 0
    for row, reason in _csv_rows(csv.reader(lines, dialect, strict=True)):
        if header:
            number += 1
            reason = reason or (
                "" if len(row) == len(header) else f"{len(row)} fields, where the header has {len(header)}"
            )
            if reason:
                yield RejectedRecord(str(number), reason)
            else:
                yield row_of(str(number), dict(zip(header, row, strict=True)), columns, budget)
        elif rejected := RejectedRecord("", reason) if reason else _no_text_column(row, columns):
            yield rejected
            return
        header = header or row
    lines.detach()  # else it would close the stream


def _csv_rows(reader: Iterator[list[str]]) -> Iterator[tuple[list[str], str]]:
    """The rows but for empty lines, and what is wrong with each."""
    while True:
        try:
            row, reason = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            row, reason = [], str(error)
        if row or reason:
            yield row, reason or ("not UTF-8" if any(map(_SURROGATE.search, row)) else "")


# ---------------------------------------------------------------------------------------------------------------------
# Parquet


def row_groups(stream: io.BufferedReader, columns: Columns) -> list[tuple[int, int]]:
    """The rows and packed bytes of each row group; none of a file without texts."""
    file = _opened(stream)
    if isinstance(_columns_to_read(file, columns), RejectedRecord):
        return []
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    return [
        (group.num_rows, sum(group.column(each).total_compressed_size for each in range(group.num_columns)))
        for group in groups
    ]


def read_parquet(
    stream: io.BufferedReader, budget: ByteBudget, columns: Columns, groups: range | None = None, before: int = 0
) -> Iterator[Item]:
    """Apache Parquet, by pyarrow; a row is called by its number, from 1, of all row groups or of some, before which
    there are `before` rows. A damaged row group costs itself; a file without texts is one rejected record. Needs a
    stream that can be sought."""
    file = _opened(stream)
    wanted = _columns_to_read(file, columns)
    if isinstance(wanted, RejectedRecord):
        yield wanted
        return
    for group in range(file.num_row_groups) if groups is None else groups:
        number, rows = before, file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(_BATCH_ROWS, [group], wanted, use_threads=False):
                budget.take(batch.nbytes)
                arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
                for row in range(batch.num_rows):
                    number += 1
                    yield _parquet_row(str(number), arrays, row, columns, budget)
        except FATAL:
            raise
        except Exception as error:  # pyarrow has many
            yield RejectedRecord("", reason_of(error, "Parquet"), max(1, before + rows - number))
        before += rows


def _opened(stream: io.BufferedReader) -> Any:
    import pyarrow
    from pyarrow import parquet

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    # Without `pre_buffer`, which takes whole columns of a row group into memory.
    return parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)


def _columns_to_read(file: Any, columns: Columns) -> list[str] | RejectedRecord:
    """Those of the parts of a document, and those of scalars whose values are short on average."""
    schema = file.schema_arrow
    if rejected := _no_text_column(schema.names, columns):
        return rejected
    texts = [name for name in columns.texts if name in schema.names]
    if not any(_TEXT.fullmatch(_kind(schema.field(name).type)) for name in texts):
        return RejectedRecord(
            "", f'column "{texts[0]}" holds no texts, but values of type {schema.field(texts[0]).type}'
        )
    sizes: dict[str, int] = {}
    for group in map(file.metadata.row_group, range(file.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_uncompressed_size
    most = 4 * _SHORT * max(1, file.metadata.num_rows)  # bytes; a character has up to four
    return [
        field.name
        for field in schema
        if (field.name in texts and _TEXT.fullmatch(_kind(field.type)))
        or (_SCALAR.match(_kind(field.type)) and (field.name in _others(columns) or sizes.get(field.name, 0) <= most))
    ]


def _kind(kind: Any) -> str:
    """The name of a type of pyarrow, or of what a dictionary holds."""
    return str(kind.value_type if str(kind).startswith("dictionary") else kind)


def _parquet_row(name: str, arrays: Mapping[str, Any], row: int, columns: Columns, budget: ByteBudget) -> Item:
    values: dict[str, Any] = {}
    for column, array in arrays.items():
        try:
            values[column] = _value(array[row])
        except (ValueError, OverflowError) as error:  # bytes that are no UTF-8, a date that no calendar has
            if column in columns.texts:
                return RejectedRecord(name, f"a damaged text: {error}")
    return row_of(name, values, columns, budget)


def _value(scalar: Any) -> Any:
    import pyarrow

    if isinstance(scalar, pyarrow.TimestampScalar) and scalar.type.unit == "ns":
        scalar = scalar.cast(pyarrow.timestamp("us", scalar.type.tz), safe=False)  # Python keeps microseconds
    value = scalar.as_py()
    return value.decode() if isinstance(value, bytes) else value
