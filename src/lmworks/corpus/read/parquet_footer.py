"""What the footer of a Parquet file declares of its row groups and columns, read without pyarrow.

pyarrow ends the process at some footers that contradict themselves, as soon as it is asked for a row group or a column
of theirs. The footer is Thrift in its compact protocol (Apache Thrift, `thrift-compact-protocol.md`); the fields are
those of `parquet.thrift` (Apache Parquet).
"""

import io
from dataclasses import dataclass
from typing import Any

from lmworks.corpus.read.streams import DamagedError

_MAGIC = b"PAR1"
_MAX_FOOTER = 64_000_000  # bytes; each costs about a microsecond
_NESTING = 16  # structures in each other; the format has 6
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13
_NUMBERS = (4, 5, 6)  # of 16, 32 and 64 bits

Wanted = dict[int, Any]  # the number of a field -> what is wanted of it: None for its value, or of its structure


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    path: str  # the names of a nested column with dots between them
    packed: int  # bytes
    unpacked: int  # bytes


@dataclass(frozen=True, slots=True)
class RowGroup:
    rows: int
    unpacked: int  # bytes
    columns: tuple[ColumnChunk, ...]

    @property
    def packed(self) -> int:
        return sum(column.packed for column in self.columns)


# FileMetaData: 4 row_groups. RowGroup: 1 columns, 2 total_byte_size, 3 num_rows. ColumnChunk: 3 meta_data.
# ColumnMetaData: 3 path_in_schema, 6 total_uncompressed_size, 7 total_compressed_size.
_WANTED: Wanted = {4: {1: {3: {3: None, 6: None, 7: None}}, 2: None, 3: None}}


def row_groups(stream: io.BufferedReader) -> list[RowGroup]:
    """The row groups in order. Raises DamagedError for what is no footer, or declares less than nothing."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, length - 8))
    end = stream.read(8)
    size = int.from_bytes(end[:4], "little")
    if len(end) < 8 or end[4:] != _MAGIC or size > min(length - 12, _MAX_FOOTER):
        raise DamagedError("a Parquet file without a footer")
    stream.seek(length - 8 - size)
    try:
        file = _Compact(stream.read(size)).structure(_WANTED, _NESTING)
        return [_row_group(group) for group in file.get(4, ())]
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DamagedError("a Parquet file with a damaged footer") from error


def _row_group(group: dict[int, Any]) -> RowGroup:
    chunks = [chunk[3] for chunk in group[1]]
    columns = [ColumnChunk(".".join(part.decode() for part in chunk[3]), chunk[7], chunk[6]) for chunk in chunks]
    read = RowGroup(group[3], group[2], tuple(columns))
    if min(read.rows, read.unpacked, *(min(column.packed, column.unpacked) for column in columns)) < 0:
        raise DamagedError("a Parquet file whose footer declares less than nothing")
    return read


class _Compact:
    """Values of the compact protocol one after the other. IndexError where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def structure(self, wanted: Wanted, nesting: int) -> dict[int, Any]:
        """The wanted fields that are there, by number."""
        if not nesting:
            raise DamagedError("a Parquet file whose footer is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            step, kind = header >> 4, header & 15
            number = number + step if step else self._number()
            value = self._value(kind, wanted.get(number), nesting - 1, alone=True)
            if number in wanted:
                found[number] = value
        return found

    def _value(self, kind: int, wanted: Wanted | None, nesting: int, alone: bool = False) -> Any:
        """`alone` is a field; a truth value is then in its kind, else a byte of its own."""
        if kind in _NUMBERS:
            return self._number()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.structure(wanted or {}, nesting)
        if kind in (_LIST, _SET):
            return self._list(wanted, nesting)
        if kind == _MAP:
            return self._map(nesting)
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE if alone else self._byte() == _TRUE
        widths = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}
        if kind not in widths:
            raise DamagedError(f"a Parquet file whose footer has a value of the unknown kind {kind}")
        return self._bytes(widths[kind])

    def _list(self, wanted: Wanted | None, nesting: int) -> list[Any]:
        if not nesting:
            raise DamagedError("a Parquet file whose footer is nested too deeply")
        header = self._byte()
        size, kind = header >> 4, header & 15
        if size == 15:
            size = self._unsigned()
        if size > len(self._data) - self._at:  # each takes a byte at least
            raise IndexError
        return [self._value(kind, wanted, nesting - 1) for _ in range(size)]

    def _map(self, nesting: int) -> None:
        size = self._unsigned()
        if not size:
            return
        if not nesting or size > len(self._data) - self._at:
            raise IndexError
        kinds = self._byte()
        for _ in range(size):
            self._value(kinds >> 4, None, nesting - 1)
            self._value(kinds & 15, None, nesting - 1)

    def _number(self) -> int:
        """Zigzag: 0, -1, 1, -2, …"""
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def _unsigned(self) -> int:
        """Seven bits a byte, the lowest first; at most 64 of them."""
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise DamagedError("a Parquet file whose footer has a number of more than 64 bits")

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]
