"""What is read, cut into parts of about equal work: many small files, or a stretch or a piece of a large one.

Tables of JSON Lines and Parquet are cut where they lie. Any other container that is large is read here, once and from
its beginning, and its records are put into pieces, which others turn into documents meanwhile; reading takes a
hundredth of the time that the extraction of pages takes. A run that goes on reads over what is done.
"""

import pickle
import shutil
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from lmworks.corpus.execution.execution import Part
from lmworks.corpus.read.byte_ranges import Stretch, read_stretch, stretches_of
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import Found, read_found
from lmworks.corpus.read.format_detection import recognise
from lmworks.corpus.read.opened_file import read_stream
from lmworks.corpus.read.record import Item, Record, Row
from lmworks.corpus.read.record_documents import Extract, documents_from, limits_of
from lmworks.corpus.read.streams import head_of
from lmworks.corpus.sources.files import FoundFile
from lmworks.corpus.sources.remote_objects import open_found
from lmworks.corpus.sources.remote_objects import size_of as size_of_file
from lmworks.records import Document, RejectedRecord

_RECORD_WORK = 4  # of a byte that an extractor has to look at, against one of a table, which is text already
_ITEM_BYTES = 200  # that a record counts beside its content


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large parts are. They change no byte of the artefact, unless a file has more refusals than are told one by
    one: those of a stretch or a piece are counted for themselves.

    bytes  Of the files of a part, of which the last may be larger, and of a stretch or a piece.
    files  Most of a part.
    large  Bytes of a container from which on it is cut: what is packed in it may be many times as much.
    """

    bytes: int = 1 << 24
    files: int = 1000
    large: int = 1 << 22


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of a file, which lie pickled in a file of ours."""

    path: Path


@dataclass(frozen=True, slots=True)
class ReadPart:
    """What one process reads: files, one after another, or of one file the stretch or the piece."""

    found: tuple[Found, ...]
    config: ReadConfig
    of_file: Stretch | Piece | None = None

    def documents(self, extract: Extract) -> Iterator[Document | RejectedRecord]:
        """In their order; raises nothing for what the files hold."""
        if self.of_file is None:
            for found in self.found:
                yield from read_found(found, self.config, extract)
            return
        (found,) = self.found
        assert isinstance(found, FoundFile)
        match self.of_file:
            case Piece():
                items = _of_piece(self.of_file)
            case stretch:
                items = _of_stretch(stretch, found, self.config)
        yield from documents_from(items, found, self.config, extract)


def _of_stretch(stretch: Stretch, found: FoundFile, config: ReadConfig) -> Iterator[Item]:
    with open_found(found) as stream:
        yield from read_stretch(stream, stretch, limits_of(config), config.columns)


def _of_piece(piece: Piece) -> Iterator[Item]:
    with piece.path.open("rb") as stream:
        while True:
            try:
                yield pickle.load(stream)
            except EOFError:
                return


def size_of(found: Found) -> int:
    """Bytes."""
    try:
        return size_of_file(found) if isinstance(found, FoundFile) else 0
    except OSError:  # told when it is read
        return 0


def read_parts(found: Iterable[Found], config: ReadConfig, work: Path, sizes: PartSizes) -> Iterator[Part[ReadPart]]:
    """The parts in the order of what was found, each a folder in `work / "parts"`; their sizes are bytes.

    They are made when they are asked for: a piece lies in `work / "pieces"` from then until its part is done.
    """
    cutter = _Cutter(config, work, sizes)
    group: list[Found] = []
    size = 0
    for each in found:
        cut = cutter.cut(each) if _may_be_cut(each) and size_of(each) >= sizes.large else None
        if group and (cut is not None or size >= sizes.bytes or len(group) >= sizes.files):
            yield cutter.part(tuple(group), size)
            group, size = [], 0
        if cut is not None:
            yield from cut
        else:
            group.append(each)
            size += size_of(each)
    if group:
        yield cutter.part(tuple(group), size)


def _may_be_cut(found: Found) -> TypeGuard[FoundFile]:
    """A shard of documents is a part as it is."""
    return isinstance(found, FoundFile) and not found.made


class _Cutter:
    """Numbers the parts, whose names say their places."""

    def __init__(self, config: ReadConfig, work: Path, sizes: PartSizes) -> None:
        self._config, self._sizes = config, sizes
        self._parts, self._pieces = work / "parts", work / "pieces"
        self._number = 0
        shutil.rmtree(self._pieces, ignore_errors=True)  # of a run that was killed, whose parts are made again
        self._pieces.mkdir()

    def part(self, found: tuple[Found, ...], size: int, of_file: Stretch | None = None) -> Part[ReadPart]:
        return Part(ReadPart(found, self._config, of_file), self._next(), size)

    def cut(self, found: FoundFile) -> Iterator[Part[ReadPart]] | None:
        """The parts of a large file; None for one that is no container, or cannot be read, or is refused as a whole."""
        try:
            with open_found(found) as stream:
                if recognise(found.path.name, head_of(stream)).container is None:
                    return None
                limits, columns = limits_of(self._config), self._config.columns
                stretches = stretches_of(found.path.name, stream, limits, columns, self._sizes.bytes)
        except OSError:
            return None
        return self._of_pieces(found) if stretches is None else self._of_stretches(found)

    def _of_stretches(self, found: FoundFile) -> Iterator[Part[ReadPart]]:
        with open_found(found) as stream:
            limits, columns = limits_of(self._config), self._config.columns
            for stretch in stretches_of(found.path.name, stream, limits, columns, self._sizes.bytes) or ():
                yield self.part((found,), stretch.size, stretch)

    def _of_pieces(self, found: FoundFile) -> Iterator[Part[ReadPart]]:
        left, position = size_of(found), 0
        with open_found(found) as stream:
            items = read_stream(found.path.name, stream, limits_of(self._config), self._config.columns)
            item, more = next(items, None), True
            while more:  # one piece at least, so that a file without records counts as well
                done = self._next()
                path = self._pieces / f"{done.name}.pickle"
                item = self._write(None if done.exists() else path, item, items)
                more = item is not None
                size = max(0, min(left, stream.tell() - position)) if more else left
                left, position = left - size, position + size
                yield Part(ReadPart((found,), self._config, Piece(path)), done, size, consumes=path)

    def _write(self, path: Path | None, item: Item | None, items: Iterator[Item]) -> Item | None:
        """A piece that begins with `item`, or no file where it is not wanted; the item that begins the next piece."""
        with nullcontext() if path is None else path.open("wb") as stream:
            work = 0
            while item is not None and work < self._sizes.bytes:
                if stream is not None:
                    pickle.dump(item, stream)
                work += _work_of(item)
                item = next(items, None)
        return item

    def _next(self) -> Path:
        self._number += 1
        return self._parts / f"{self._number - 1:06d}"


def _work_of(item: Item) -> int:
    match item:
        case Record():
            return _ITEM_BYTES + _RECORD_WORK * len(item.content)
        case Row():
            return _ITEM_BYTES + len(item.text)
        case _:
            return _ITEM_BYTES
