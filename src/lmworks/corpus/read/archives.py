"""Archives (zip, tar) and compressed streams (gzip, bzip2, xz, Zstandard), by the standard library.

Nothing is written to the disk, so that a name can point nowhere; links, devices and what is encrypted are rejected.
"""

import bz2
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.read.byte_budget import PIECE, ByteBudget, stream_of
from lmworks.corpus.read.record import Names, safe_name
from lmworks.records import RejectedRecord

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1 or SHA-256, which `git archive` leaves in the comment
_MAX_EMPTY_READS = 16  # at the end of an archive: `tarfile` reads on for the exabytes that a header may declare
_INPUT = 1 << 14  # a step of the decompressors, which give nothing of the step in which they find damage
_OUTPUT_OF_ZSTD = 1 << 12  # bytes; pyarrow gives nothing of a read in which it finds damage


@dataclass(frozen=True, slots=True)
class Member:
    """A stream inside another one, which may be read until the next member is asked for. `size` is what it declares,
    None where it does not."""

    name: str
    stream: io.BufferedReader
    size: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_zip(stream: BinaryIO, budget: ByteBudget) -> Iterator[Member | RejectedRecord]:
    """The files of a zip archive in the order of its directory, without folders. What a member unpacks to is compared
    with the size and checksum that it declares. Needs a stream that can be sought."""
    archive = zipfile.ZipFile(stream)
    commit = _commit_of(archive.comment.decode("latin-1"))
    names = Names()
    for info in archive.infolist():
        name, mode = safe_name(_name_in_zip(info)), info.external_attr >> 16 if info.create_system == 3 else 0
        if (info.is_dir() or stat.S_ISDIR(mode)) and not info.file_size:
            continue
        if info.flag_bits & 0x2041:  # bits 0, 6 and 13
            yield RejectedRecord(name, "encrypted")
        elif mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            yield RejectedRecord(name, "a link" if stat.S_ISLNK(mode) else "no regular file")
        else:
            content = stream_of(_opened_when_read(archive, info), budget)
            yield Member(names.unique(name), content, info.file_size, commit | _modified_in_zip(info))


def _opened_when_read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[int], bytes]:
    """So that damage of a member is its own."""
    opened: list[Any] = []

    def read(size: int) -> bytes:
        if not opened:
            opened.append(archive.open(info))
        return opened[0].read1(size)

    return read


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Names are UTF-8 where they say so, and often where they do not; else of the code page of the first PC."""
    try:
        return info.filename if info.flag_bits & 0x800 else info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _modified_in_zip(info: zipfile.ZipInfo) -> dict[str, str]:
    try:
        modified = datetime(*info.date_time)
    except ValueError:  # no time that a calendar has
        return {}
    return {"modified": modified.isoformat()} if modified != datetime(1980, 1, 1) else {}  # which stands for no date


def read_tar(stream: io.BufferedReader) -> Iterator[Member | RejectedRecord]:
    """The files of a tar archive in one pass, without folders. A damaged header, or an end without its mark, ends the
    reading with one rejected record, which `tarfile` alone would not tell."""
    source = _Blocks(stream)
    archive = tarfile.open(fileobj=source, mode="r|")  # type: ignore[call-overload]  # noqa: SIM115
    names = Names()
    while (info := archive.next()) is not None:
        archive.members.clear()  # else it keeps all of them
        name = safe_name(info.name)
        if info.isdir():
            continue
        if info.issparse():
            yield RejectedRecord(name, "a sparse file")
        elif info.type not in tarfile.REGULAR_TYPES:
            yield RejectedRecord(name, "a link" if info.islnk() or info.issym() else "no regular file")
        elif opened := archive.extractfile(info):
            metadata = _modified_in_tar(info) | _commit_of(info.pax_headers.get("comment", ""))
            content = stream_of(opened.read1)  # type: ignore[attr-defined]
            yield Member(names.unique(name), content, info.size, metadata)
    yield from source.rejected_behind(archive.offset)


class _Blocks:
    """The stream that `tarfile` reads; keeps the last blocks, to see at which one it has ended."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._last, self._end, self._empty = b"", 0, 0

    def read(self, size: int) -> bytes:
        piece = self._stream.read1(size)  # what comes before damage, before the damage
        self._last, self._end = (self._last + piece)[-2 * size :], self._end + len(piece)
        self._empty = 0 if piece else self._empty + 1
        if self._empty > _MAX_EMPTY_READS:
            raise UnusableError("a tar archive that ends early")
        return piece

    def rejected_behind(self, offset: int) -> Iterator[RejectedRecord]:
        """Unless the block there is one of zeros, with nothing else behind it. The stream is read to its very end,
        where its checksum is looked at."""
        rest = self._last[len(self._last) - (self._end - offset) :] if offset < self._end else b""
        if len(rest) < tarfile.BLOCKSIZE:
            yield RejectedRecord("", "the mark at the end of the archive is missing: it may be cut off")
        elif rest[: tarfile.BLOCKSIZE].strip(b"\0"):
            yield RejectedRecord("", "a damaged header in a tar archive; what follows is not read")
            return
        other = len(rest) - rest.count(0)
        while piece := self._stream.read(PIECE):
            other += len(piece) - piece.count(0)
        if other:
            yield RejectedRecord("", f"{other:,} bytes after the end of the archive")


def _modified_in_tar(info: tarfile.TarInfo) -> dict[str, str]:
    try:
        return {"modified": datetime.fromtimestamp(int(info.mtime), UTC).isoformat()} if info.mtime > 0 else {}
    except (ValueError, OverflowError, OSError):  # no time that a calendar has
        return {}


def _commit_of(comment: str) -> dict[str, str]:
    return {"commit": comment} if _COMMIT.fullmatch(comment) else {}


# ---------------------------------------------------------------------------------------------------------------------
# Compressed streams

# Next to files, the two that HTTP has bare: zlib (RFC 1950) and DEFLATE (RFC 1951), one stream each.
_DECOMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
    "zlib": zlib.decompressobj,
    "deflate": lambda: zlib.decompressobj(-zlib.MAX_WBITS),
}


def open_compressed(stream: io.BufferedReader, packing: str, budget: ByteBudget) -> io.BufferedReader:
    """The unpacked stream; it cannot be sought. Damage raises when what came before it was read."""
    if packing == "zstd":
        import pyarrow

        unpacked = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
        return stream_of(lambda size: unpacked.read(min(size, _OUTPUT_OF_ZSTD)), budget)
    return stream_of(_Streams(stream, packing).read, budget)


class _Streams:
    """Compressed streams one after the other, which is what files of gzip, bzip2 and xz are. The classes of the modules
    end without a word at one that is damaged."""

    def __init__(self, source: io.BufferedReader, packing: str) -> None:
        self._source, self._packing = source, packing
        self._decompressor = _DECOMPRESSORS[packing]()
        self._pending = b""  # read, but not given to the decompressor

    def read(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof and not self._another():
                return b""
            data = self._decompressor.decompress(self._pending, size)
            self._pending = getattr(self._decompressor, "unconsumed_tail", b"")
            if data:
                return data
            if not self._decompressor.eof and not self._pending:
                self._pending = self._source.read1(_INPUT)
                if not self._pending:
                    raise UnusableError(f"{self._packing} data that end early")

    def _another(self) -> bool:
        """Whether something follows the stream that has ended: zeros are padding, all else has to be another stream."""
        if self._packing in ("zlib", "deflate"):
            return False
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while not rest and (more := self._source.read1(_INPUT)):
            rest = more.lstrip(b"\0")
        if rest:
            self._decompressor, self._pending = _DECOMPRESSORS[self._packing](), rest
        return bool(rest)
