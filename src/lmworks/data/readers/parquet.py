"""Parquet files as rows: one row group at a time, in batches whose size follows that of their texts.

Of the columns only those are read that hold a part of the document, and short scalars. Sizes are compared with what the
file declares of itself; what its pages declare of themselves is trusted as far as pyarrow trusts it.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmworks.data.readers.record import Item, Limits, Refused
from lmworks.data.readers.rows import SHORT, Columns, no_text_column, row_of

_BATCH_BYTES = 16_000_000  # of texts that are in memory at once, about
_BATCH_ROWS = 1024
_FREE = 100_000_000  # bytes that a row group may unpack to, however small it is


def parquet_rows(stream: io.BufferedReader, limits: Limits, columns: Columns) -> Iterator[Item]:
    """Rows called by their numbers, from 1. A damaged row group costs itself; a file without texts is one refusal."""
    try:
        opened = _opened(stream, columns)
    except _failures() as error:
        yield Refused("", f"a damaged Parquet file: {error}")
        return
    if isinstance(opened, Refused):
        yield opened
        return
    before = 0
    for group in opened.groups:
        yield from _rows(opened, group, before, limits, columns)
        before += group.rows


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group, by what the file declares of it."""

    number: int
    rows: int
    size: int  # bytes, unpacked
    packed: int  # bytes


@dataclass(frozen=True, slots=True)
class _Opened:
    file: Any  # pyarrow.parquet.ParquetFile
    names: list[str]  # of the columns to read
    groups: list[_Group]


def _opened(stream: io.BufferedReader, columns: Columns) -> _Opened | Refused:
    """Raises what `_failures` names."""
    from pyarrow import parquet

    # Without `pre_buffer`, which takes whole columns of a row group into memory.
    settings: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False, "page_checksum_verification": True}
    file = parquet.ParquetFile(stream, **settings)
    schema = file.schema_arrow
    if columns.text not in schema.names:
        return no_text_column(schema.names, columns)
    if not _holds_text(kind := schema.field(columns.text).type):
        return Refused("", f'column "{columns.text}" holds no texts, but values of type {kind}')
    names = _wanted(schema, file.metadata, columns)
    # A column whose rows are numbers into a list of texts is left so: written out, they might not fit into memory.
    texts = [name for name in names if _is_text(schema.field(name).type)]
    file = parquet.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts, **settings)
    return _Opened(file, names, [_described(file.metadata, number) for number in range(file.num_row_groups)])


def _described(metadata: Any, number: int) -> _Group:
    group = metadata.row_group(number)
    packed = sum(group.column(index).total_compressed_size for index in range(group.num_columns))
    return _Group(number, max(0, group.num_rows), group.total_byte_size, packed)


def _rows(opened: _Opened, group: _Group, before: int, limits: Limits, columns: Columns) -> Iterator[Item]:
    """The rows of one row group, before which there are `before` others."""
    if group.size > max(_FREE, limits.ratio * group.packed):
        reason = f"a row group that unpacks to more than {limits.ratio:,} times its size"
        yield Refused("", reason, max(1, group.rows))
        return
    average = max(1, group.size // max(1, group.rows))
    batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // average))
    batches = opened.file.iter_batches(batch_rows, [group.number], opened.names, use_threads=False)
    number = before
    while True:
        try:
            batch = next(batches, None)
        except _failures() as error:
            yield Refused("", f"damaged Parquet data: {error}", max(1, before + group.rows - number))
            return
        if batch is None:
            return
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        for row in range(batch.num_rows):
            number += 1
            yield _row(str(number), arrays, row, limits, columns)


def _failures() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a file that is damaged."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


def _wanted(schema: Any, metadata: Any, columns: Columns) -> list[str]:
    """The columns of parts, and those of scalars whose values are short on average."""
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        described = metadata.row_group(group)
        for index in range(described.num_columns):
            column = described.column(index)
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_uncompressed_size
    most = 4 * SHORT * max(1, metadata.num_rows)  # bytes; a character has up to four
    parts = columns.parts
    return [
        field.name
        for field in schema
        if field.name == columns.text
        or (_is_scalar(field.type) and (field.name in parts or sizes.get(field.name, 0) <= most))
    ]


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


def _holds_text(kind: Any) -> bool:
    """Some writers forget to say that bytes are text."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    return _is_text(kind) or types.is_string_view(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _is_scalar(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_date, types.is_timestamp)
    return _is_text(kind) or types.is_string_view(kind) or any(test(kind) for test in tests)


def _row(name: str, arrays: Mapping[str, Any], row: int, limits: Limits, columns: Columns) -> Item:
    values: dict[str, Any] = {}
    for column, array in arrays.items():
        try:
            values[column] = _value(array[row])
        except (ValueError, OverflowError) as error:  # bytes that are no UTF-8, a date that no calendar has
            if column == columns.text:
                return Refused(name, f"a damaged text: {error}")
    return row_of(name, values, columns, limits)


def _value(scalar: Any) -> Any:
    import pyarrow

    if isinstance(scalar, pyarrow.TimestampScalar) and scalar.type.unit == "ns":
        scalar = scalar.cast(pyarrow.timestamp("us", scalar.type.tz), safe=False)  # Python keeps microseconds
    value = scalar.as_py()
    return value.decode() if isinstance(value, bytes) else value
