"""Parts of about equal work to read: many small files, or a piece of a large one.

Tables of JSON Lines and Parquet are cut where they lie. Any other container that is large is read once, in a sandbox,
and its records are put into pieces, which others turn into documents meanwhile; reading takes a hundredth of the time
that the extraction of pages takes. A run that continues reads over what is done.
"""

import io
import pickle
import shutil
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lmworks.artefact import UnreachableError
from lmworks.corpus.read.byte_budget import ByteBudget, head_of
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import Found, lines_of
from lmworks.corpus.read.format_detection import detect
from lmworks.corpus.read.reader import DocumentLine, Piece, read_stream
from lmworks.corpus.read.table_rows import read_jsonl, row_groups
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.sources.remote_objects import open_found
from lmworks.corpus.sources.remote_objects import size_of as size_of_file
from lmworks.corpus.work_parts import Part
from lmworks.records import RejectedRecord
from lmworks.sandbox import Mark, Sandbox, SandboxError

_RECORD_WORK = 4  # of a byte that an extractor has to look at, against one of a table, which is text already
_ITEM_BYTES = 200  # that a record counts in addition to its content
_LINE = 1 << 20  # bytes of a line that are read at once


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large parts are. They change no byte of the artefact, unless a file has more rejected records than are told
    one by one: those of a piece are counted for themselves.

    bytes  Of the files of a part, of which the last may be larger, and of a piece.
    files  Most of a part.
    large  Bytes of a container from which on it is cut: what is packed in it may be many times as much.
    """

    bytes: int = 1 << 24
    files: int = 1000
    large: int = 1 << 22


@dataclass(frozen=True, slots=True)
class ReadPart:
    """The work of one process: files, one after another, or of one file a piece, or its items from `start` on."""

    found: tuple[Found, ...]
    config: ReadConfig
    piece: Piece | None = None
    start: int = 0

    def lines(self, sandbox: Sandbox) -> Iterator[DocumentLine | RejectedRecord]:
        """The documents in their order; raises nothing for what the files hold."""
        return lines_of(self.found, self.config, sandbox, self.piece, self.start)


def size_of(found: Found) -> int:
    """Bytes."""
    try:
        return size_of_file(found) if isinstance(found, FoundFile) else 0
    except OSError:  # told when it is read
        return 0


def read_parts(
    found: Iterable[Found], config: ReadConfig, work: Path, sizes: PartSizes, sandbox: Sandbox
) -> Iterator[Part[ReadPart]]:
    """The parts in the order of what was found, each a folder in `work / "read"`; their sizes are bytes.

    They are made when they are asked for: a piece lies in `work / "pieces"` until its part is done.
    """
    shutil.rmtree(work / "pieces", ignore_errors=True)  # of a run that was killed, whose parts are made again
    (work / "pieces").mkdir()
    group: list[Found] = []
    size = number = 0

    def part(found: tuple[Found, ...], size: int, piece: Piece | None = None, start: int = 0) -> Part[ReadPart]:
        nonlocal number
        number += 1
        given = ReadPart(found, config, piece, start)
        return Part(given, _part_folder(work, number - 1), size, piece.path if piece else None)

    for each in found:
        is_large = isinstance(each, FoundFile) and not each.made and size_of(each) >= sizes.large
        if group and (is_large or size >= sizes.bytes or len(group) >= sizes.files):
            yield part(tuple(group), size)
            group, size = [], 0
        last: Piece | None = None
        if is_large:
            assert isinstance(each, FoundFile)
            try:
                for last, piece_size in sandbox.stream(cut_file, _Cut(each, config, work, sizes, number)):
                    yield part((each,), piece_size, last)
            except SandboxError as death:  # whoever reads the rest of the items tells of what
                if last is not None and last.path is None:  # a table, of which only a file that does not come dies
                    raise UnreachableError(f"{each.uri}: {death}. What was read is kept") from None
                if last is not None:
                    yield part((each,), 0, start=last.end)
        if last is None:
            group.append(each)
            size += size_of(each)
    if group:
        yield part(tuple(group), size)


def _part_folder(work: Path, number: int) -> Path:
    return work / "read" / f"{number:06d}"


# ---------------------------------------------------------------------------------------------------------------------
# In the sandbox


@dataclass(frozen=True, slots=True)
class _Cut:
    """A file to cut, whose first part has this number."""

    found: FoundFile
    config: ReadConfig
    work: Path
    sizes: PartSizes
    number: int


def cut_file(cut: _Cut, mark: Mark) -> Iterator[tuple[Piece, int]]:
    """The pieces of a large file, and their sizes; none of one that is no container, or cannot be read."""
    is_cut = False
    try:
        with open_found(cut.found) as stream:
            kind = detect(cut.found.path.name, head_of(stream)).container
            tables = {"jsonl": _of_lines, "parquet": _of_groups}
            for piece in tables[kind](stream, cut, mark) if kind in tables else ():
                is_cut = True
                yield piece
            if kind is not None and not is_cut:
                stream.seek(0)
                for piece in _of_items(stream, cut, mark):
                    is_cut = True
                    yield piece
    except (MemoryError, UnreachableError):
        raise
    except Exception:
        if is_cut:
            raise  # else it is told when the file is read


def _of_lines(stream: io.BufferedReader, cut: _Cut, mark: Mark) -> Iterator[tuple[Piece, int]]:
    """Cut behind a newline, and not before the end of the first row, up to which the lines show what kind of table it
    is. None of a file without a row, or that is rejected as a whole."""
    for item in read_jsonl(stream, ByteBudget(stream, cut.config.max_bytes), cut.config.columns):
        if not isinstance(item, RejectedRecord):
            break
        if not item.uri:
            return
    else:
        return
    begin = stream.tell()
    stream.seek(0)
    start = before = position = lines = 0
    while line := stream.readline(_LINE):
        position, ends = position + len(line), line.endswith(b"\n")
        lines += ends
        mark(0, 0)
        if ends and position >= max(start + cut.sizes.bytes, begin):
            yield Piece(start, position, before), position - start
            start, before = position, lines
    if start < position:
        yield Piece(start, position, before), position - start


def _of_groups(stream: io.BufferedReader, cut: _Cut, mark: Mark) -> Iterator[tuple[Piece, int]]:
    """Ranges of row groups; what the file has next to them counts as of the last."""
    groups = row_groups(stream, cut.config.columns)
    ends = [0]
    packed = 0
    for number, (_, size) in enumerate(groups, 1):
        packed += size
        if packed >= cut.sizes.bytes or number == len(groups):
            ends.append(number)
            packed = 0
    left = size_of(cut.found)
    for start, end in pairwise(ends):
        size = left if end == len(groups) else min(left, sum(size for _, size in groups[start:end]))
        left -= size
        yield Piece(start, end, sum(rows for rows, _ in groups[:start])), size


def _of_items(stream: io.BufferedReader, cut: _Cut, mark: Mark) -> Iterator[tuple[Piece, int]]:
    """One piece at least, so that a file without records counts as well; a part that is done needs none."""
    left, position, number, start = size_of(cut.found), 0, cut.number, 0
    items = read_stream(cut.found.path.name, stream, cut.config)
    item, more = next(items, None), True
    while more:
        path = cut.work / "pieces" / f"{number:06d}.pickle"
        is_done = _part_folder(cut.work, number).exists()
        with nullcontext() if is_done else path.open("wb") as sink:
            end, work = start, 0
            while item is not None and work < cut.sizes.bytes:
                if sink is not None:
                    pickle.dump(item, sink)
                text, content = getattr(item, "text", ""), getattr(item, "content", b"")
                end, work = end + 1, work + _ITEM_BYTES + len(text) + _RECORD_WORK * len(content)
                mark(0, 0)
                item = next(items, None)
        more = item is not None
        size = max(0, min(left, stream.tell() - position)) if more else left
        left, position, number = left - size, position + size, number + 1
        yield Piece(start, end, path=path), size
        start = end
