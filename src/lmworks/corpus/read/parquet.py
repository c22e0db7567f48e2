"""Parquet files as rows: one row group at a time, in batches whose size follows that of their texts.

Of the columns only those are read that hold a part of the document, and short scalars. Sizes are compared with what the
file declares of itself; what its pages declare of themselves is trusted as far as pyarrow trusts it.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmworks.corpus.read.parquet_footer import RowGroup, row_groups
from lmworks.corpus.read.record import Item, Limits, Refused
from lmworks.corpus.read.table_rows import SHORT, Columns, no_text_column, row_of

_BATCH_BYTES = 16_000_000  # of texts that are in memory at once, about
_BATCH_ROWS = 1024
_FEW = 16  # rows: to write out fewer at once is worse than to keep the texts of a row group in a list
_FREE = 100_000_000  # bytes that a row group may unpack to, however small it is


def parquet_groups(stream: io.BufferedReader, columns: Columns) -> list[tuple[int, int]] | None:
    """Of each row group its rows and its packed bytes, as the file declares them; None where it is refused as a
    whole."""
    try:
        opened = _opened(stream, columns)
    except _failures():
        return None
    return None if isinstance(opened, Refused) else [(group.rows, group.packed) for group in opened.groups]


def parquet_rows(
    stream: io.BufferedReader, limits: Limits, columns: Columns, groups: range | None = None
) -> Iterator[Item]:
    """Rows called by their numbers, from 1, of all row groups or of some. A damaged row group costs itself; a file
    without texts is one refusal."""
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
        if groups is None or group.number in groups:
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
    """One file, twice: what rows say by numbers into a list of texts is written out by `plain`, and left so by
    `listed`, which keeps all texts of a row group."""

    plain: Any  # pyarrow.parquet.ParquetFile
    listed: Any
    names: list[str]  # of the columns to read
    texts: list[str]  # those of them that hold texts
    groups: list[_Group]


def _opened(stream: io.BufferedReader, columns: Columns) -> _Opened | Refused:
    """Raises what `_failures` names."""
    from pyarrow import parquet

    # Without `pre_buffer`, which takes whole columns of a row group into memory.
    settings: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False, "page_checksum_verification": True}
    file = parquet.ParquetFile(stream, **settings)
    schema = file.schema_arrow
    if not columns.has_text(schema.names):
        return no_text_column(schema.names, columns)
    kinds = {name: schema.field(name).type for name in columns.texts if name in schema.names}
    if not any(map(_holds_text, kinds.values())):
        name, kind = next(iter(kinds.items()))
        return Refused("", f'column "{name}" holds no texts, but values of type {kind}')
    declared = row_groups(stream)
    names = _wanted(schema, declared, columns)
    texts = [name for name in names if _is_text(schema.field(name).type)]
    listed = parquet.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts, **settings)
    groups = [_Group(number, group.rows, group.unpacked, group.packed) for number, group in enumerate(declared)]
    return _Opened(file, listed, names, texts, groups)


def _rows(opened: _Opened, group: _Group, before: int, limits: Limits, columns: Columns) -> Iterator[Item]:
    """The rows of one row group, before which there are `before` others."""
    if group.size > max(_FREE, limits.ratio * group.packed):
        reason = f"a row group that unpacks to more than {limits.ratio:,} times its size"
        yield Refused("", reason, max(1, group.rows))
        return
    average = max(1, group.size // max(1, group.rows))
    batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // average))
    written_out = _BATCH_BYTES // max(1, _longest_listed(opened, group))
    file = opened.plain if written_out >= _FEW else opened.listed
    batch_rows = min(batch_rows, written_out) if written_out >= _FEW else batch_rows
    batches = file.iter_batches(batch_rows, [group.number], opened.names, use_threads=False)
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


def _longest_listed(opened: _Opened, group: _Group) -> int:
    """Bytes of the longest text that is in a list: all rows may be that one. Writers give up such a list when it does
    not make texts shorter, and the texts behind it stand for themselves."""
    import pyarrow.compute

    compute: Any = pyarrow.compute  # which makes its functions when it is imported
    try:
        batch = next(opened.listed.iter_batches(1, [group.number], opened.texts, use_threads=False), None)
    except _failures():  # told when it is read
        return 0
    lists = [column.dictionary for column in batch.columns if hasattr(column, "dictionary")] if batch else []
    return max((compute.max(compute.binary_length(texts)).as_py() or 0 for texts in lists), default=0)


def _failures() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a file that is damaged."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError)


def _wanted(schema: Any, groups: Sequence[RowGroup], columns: Columns) -> list[str]:
    """The columns of parts, and those of scalars whose values are short on average."""
    sizes: dict[str, int] = {}
    for column in (column for group in groups for column in group.columns):
        sizes[column.path] = sizes.get(column.path, 0) + column.unpacked
    most = 4 * SHORT * max(1, sum(group.rows for group in groups))  # bytes; a character has up to four
    return [
        field.name
        for field in schema
        if (field.name in columns.texts and _holds_text(field.type))
        or (_is_scalar(field.type) and (field.name in columns.others or sizes.get(field.name, 0) <= most))
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
            if column in columns.texts:
                return Refused(name, f"a damaged text: {error}")
    return row_of(name, values, columns, limits)


def _value(scalar: Any) -> Any:
    import pyarrow

    if isinstance(scalar, pyarrow.TimestampScalar) and scalar.type.unit == "ns":
        scalar = scalar.cast(pyarrow.timestamp("us", scalar.type.tz), safe=False)  # Python keeps microseconds
    value = scalar.as_py()
    return value.decode() if isinstance(value, bytes) else value
