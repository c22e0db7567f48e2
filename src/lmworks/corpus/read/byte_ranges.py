"""Large tables cut into stretches, so that several processes read one: lines of JSON, row groups of Parquet.

Stretches read one after another give what the table gives as a whole, names included, wherever it is cut. Other
containers can only be read from their beginning.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from lmworks.corpus.read.container import contained
from lmworks.corpus.read.format_detection import recognise
from lmworks.corpus.read.parquet import parquet_groups, parquet_rows
from lmworks.corpus.read.record import Item, Limits
from lmworks.corpus.read.streams import PIECE, Portion, head_of
from lmworks.corpus.read.table_rows import Columns
from lmworks.corpus.read.tables import jsonl_begins, jsonl_rows

_SCANNED = 16 * PIECE  # bytes that are looked at together


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of JSON Lines the bytes `[start, end)`, of Parquet the row groups; `before` lines or rows lie before it. `size`
    is how many bytes of the file that is."""

    kind: str
    start: int
    end: int
    before: int
    size: int


def stretches_of(
    name: str, stream: io.BufferedReader, limits: Limits, columns: Columns, size: int
) -> Iterator[Stretch] | None:
    """A file called `name` in stretches of about `size` bytes; None where it is no such table, or refused as a whole.

    The stream is at its beginning and can be sought. What is refused as a whole, `read_stream` tells.
    """
    match recognise(name, head_of(stream)).container:
        case "jsonl":
            begin = jsonl_begins(stream, limits, columns)
            return None if begin is None else _of_lines(stream, begin, size)
        case "parquet":
            groups = parquet_groups(stream, columns)
            return _of_groups(groups, stream.seek(0, io.SEEK_END), size) if groups else None
        case _:
            return None


def read_stretch(stream: io.BufferedReader, stretch: Stretch, limits: Limits, columns: Columns) -> Iterator[Item]:
    """The rows and refusals of one stretch; raises nothing for what is in it."""
    return _read_stretch(stream, limits, stretch, columns)


@contained
def _read_stretch(stream: io.BufferedReader, limits: Limits, stretch: Stretch, columns: Columns) -> Iterator[Item]:
    if stretch.kind == "jsonl":
        stream.seek(stretch.start)
        lines: io.BufferedReader = io.BufferedReader(Portion(stream, stretch.end - stretch.start), PIECE)
        yield from jsonl_rows(lines, limits, columns, stretch.before)
    else:
        yield from parquet_rows(stream, limits, columns, range(stretch.start, stretch.end))


def _of_lines(stream: io.BufferedReader, begin: int, size: int) -> Iterator[Stretch]:
    """Cut behind a newline, and not before `begin`, up to which the lines show what kind of table it is."""
    start = before = position = lines = 0
    stream.seek(0)
    while block := stream.read(_SCANNED):
        cut = 0  # what of the block belongs to stretches that are done
        while (wanted := max(start + size, begin) - 1 - position) < len(block):
            newline = block.find(b"\n", max(wanted, cut))
            if newline < 0:
                break
            lines += block.count(b"\n", cut, newline + 1)
            cut = newline + 1
            yield Stretch("jsonl", start, position + cut, before, position + cut - start)
            start, before = position + cut, lines
        lines += block.count(b"\n", cut)
        position += len(block)
    if start < position:
        yield Stretch("jsonl", start, position, before, position - start)


def _of_groups(groups: list[tuple[int, int]], file_size: int, size: int) -> Iterator[Stretch]:
    """`groups` have rows and packed bytes each. What the file has beside them counts as of the last."""
    start = before = taken = rows = packed = 0
    for number, (more_rows, more_packed) in enumerate(groups, start=1):
        rows += more_rows
        packed += more_packed
        if packed >= size or number == len(groups):
            left = file_size - taken
            counted = left if number == len(groups) else min(packed, left)
            yield Stretch("parquet", start, number, before, counted)
            start, before, taken, packed = number, rows, taken + counted, 0
