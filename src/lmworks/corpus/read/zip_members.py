"""The members of a zip archive (PKWARE APPNOTE 6.3), without trust in what it declares.

`zipfile` keeps an object for every entry, lets entries overlap, and unpacks bzip2 without a bound on memory; so the
central directory is read here. What a member unpacks to is compared with the size and checksum that it declares.
"""

import functools
import io
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lmworks.corpus.read.compression import decompressed
from lmworks.corpus.read.container import Member, Names, safe_name
from lmworks.corpus.read.record import Limits, Refused
from lmworks.corpus.read.streams import PIECE, DamagedError, Meter, Portion, fill

_DIRECTORY_BYTES = 32_000_000  # of a central directory: 300,000 members and more
_END = struct.Struct("<4s4H2IH")  # end of central directory record (section 4.3.16)
_END_64 = struct.Struct("<4sQ2H2I4Q")  # the same in zip64 (4.3.14)
_LOCATOR_64 = struct.Struct("<4sIQI")  # stands between the two (4.3.15)
_ENTRY = struct.Struct("<4s6H3I5H2I")  # central directory header (4.3.12)
_LOCAL = struct.Struct("<4s5H3I2H")  # local file header (4.3.7)
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # general purpose bits 0, 6 and 13
_UTF_8 = 0x0800  # general purpose bit 11
_UNIX = 3  # "version made by" whose external attributes hold a file mode
_METHODS: dict[int, Literal["stored", "deflate", "bzip2"]] = {0: "stored", 8: "deflate", 12: "bzip2"}
_OTHER_METHODS = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "encryption by AES"}
_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # what `git archive` leaves in the comment of the archive


def zip_members(stream: io.BufferedReader, limits: Limits, meter: Meter) -> Iterator[Member | Refused]:
    """The files of the archive, in the order of its directory; folders are passed over. Needs a stream that can be
    sought. Raises DamagedError where there is no directory."""
    directory, shift, comment = _directory(stream)
    archive = {"commit": comment.decode()} if _COMMIT.fullmatch(comment) else {}
    names = Names()
    overlapping = _overlapping(directory, shift)
    for entry in _entries(directory, shift):
        if isinstance(entry, Refused):
            yield entry
        elif reason := _reason_to_refuse(entry, overlapping):
            yield Refused(entry.name, reason)
        elif not entry.is_folder:
            opened = functools.partial(_unpacked, stream, entry, limits, meter)
            checked: Any = _Checked(opened, entry.size, entry.checksum)  # readers of two raw streams are no one type
            content = io.BufferedReader(checked, PIECE)
            yield Member(names.unique(entry.name), content, entry.size, archive | entry.metadata)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_folder: bool
    flags: int
    method: int
    modified: str  # ISO 8601 without a zone, or ""
    checksum: int  # CRC-32 of the content
    packed: int  # bytes
    size: int  # bytes
    mode: int  # of a file in Unix, or 0
    start: int  # of the local header, from the beginning of the stream

    @property
    def metadata(self) -> dict[str, str]:
        return {"modified": self.modified} if self.modified else {}


def _directory(stream: io.BufferedReader) -> tuple[bytes, int, bytes]:
    """The bytes of the central directory, what to add to the offsets in it, and the comment of the archive.

    The end record is the last thing in the file but for a comment of at most 65,535 bytes. Offsets are from where the
    archive begins, which is behind the program in one that unpacks itself.
    """
    length = stream.seek(0, io.SEEK_END)
    tail_start = max(0, length - _END.size - 0xFFFF)
    stream.seek(tail_start)
    tail = stream.read(length - tail_start)
    at = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    if at < 0:
        raise DamagedError("a zip file without a central directory: it may be cut off")
    _, _, _, _, _, size, offset, comment_length = _END.unpack_from(tail, at)
    comment = tail[at + _END.size : at + _END.size + comment_length]
    end = tail_start + at
    if size == 0xFFFFFFFF or offset == 0xFFFFFFFF or tail[max(0, at - _LOCATOR_64.size) :].startswith(b"PK\6\7"):
        end, size, offset = _end_64(stream, end)
    start = end - size
    if start < 0 or offset > start:
        raise DamagedError("a zip file whose central directory lies outside of it")
    if size > _DIRECTORY_BYTES:
        raise DamagedError(f"a zip file with a central directory of {size:,} bytes")
    stream.seek(start)
    return stream.read(size), start - offset, comment


def _end_64(stream: io.BufferedReader, end: int) -> tuple[int, int, int]:
    """Where the central directory of zip64 ends, its size and its offset."""
    start = end - _LOCATOR_64.size - _END_64.size
    if start < 0:
        raise DamagedError("a zip file that ends early")
    stream.seek(start)
    fields = _END_64.unpack(stream.read(_END_64.size))
    if fields[0] != b"PK\6\6":
        raise DamagedError("a zip file without a central directory of zip64")
    return start, fields[8], fields[9]


def _entries(directory: bytes, shift: int) -> Iterator[_Entry | Refused]:
    position = 0
    while position < len(directory):
        header = directory[position : position + _ENTRY.size]
        if len(header) < _ENTRY.size or not header.startswith(b"PK\1\2"):
            break
        _, made_by, _, flags, method, time, date, checksum, packed, size, *rest = _ENTRY.unpack(header)
        name_length, extra_length, comment_length, _, _, attributes, start = rest
        name_end = position + _ENTRY.size + name_length
        raw_name, extra = directory[name_end - name_length : name_end], directory[name_end : name_end + extra_length]
        position = name_end + extra_length + comment_length
        size, packed, start = _sizes_64(extra, size, packed, start)
        mode = attributes >> 16 if made_by >> 8 == _UNIX else 0
        yield _Entry(
            name=safe_name(_decoded(raw_name, flags)),
            is_folder=stat.S_ISDIR(mode) or (raw_name.endswith((b"/", b"\\")) and not size),
            flags=flags,
            method=method,
            modified=_modified(date, time),
            checksum=checksum,
            packed=packed,
            size=size,
            mode=mode,
            start=start + shift,
        )
    if position != len(directory):
        yield Refused("", "a zip file with a damaged central directory, and the members named in the rest of it")


def _sizes_64(extra: bytes, size: int, packed: int, start: int) -> tuple[int, int, int]:
    """The three with those that do not fit into 32 bits from the extra field of zip64 (section 4.5.3)."""
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, position)
        if tag == 1:
            body = extra[position + 4 : position + 4 + length]
            numbers = iter(struct.unpack_from(f"<{len(body) // 8}Q", body))
            size, packed, start = (
                next(numbers, each) if each == 0xFFFFFFFF else each for each in (size, packed, start)
            )
            break
        position += 4 + length
    return size, packed, start


def _overlapping(directory: bytes, shift: int) -> set[int]:
    """Starts of the members that share bytes with another one. No honest archive has any; in a bomb many are one
    (Fifield 2019, "A better zip bomb")."""
    ranges = sorted(
        (entry.start, entry.start + _LOCAL.size + entry.packed)
        for entry in _entries(directory, shift)
        if isinstance(entry, _Entry)
    )
    found: set[int] = set()
    reach, reaching = 0, -1  # the furthest end so far, and the start of the member that it is the end of
    for start, end in ranges:
        if start < reach:
            found |= {start, reaching}
        if end > reach:
            reach, reaching = end, start
    return found


def _reason_to_refuse(entry: _Entry, overlapping: set[int]) -> str | None:
    if entry.flags & _ENCRYPTED or entry.method == 99:
        return "encrypted"
    if entry.mode and stat.S_IFMT(entry.mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if stat.S_ISLNK(entry.mode) else "a device or a pipe"
    if entry.method not in _METHODS:
        method = _OTHER_METHODS.get(entry.method, f"method {entry.method}")
        return f"compressed by {method}, which is not read: pack it anew with Deflate"
    if entry.start in overlapping and not entry.is_folder:
        return "shares its bytes with another member: a zip bomb"
    return None


class _Checked(io.RawIOBase):
    """A member that is opened when it is first read, so that damage is its own; and compared with what it declares."""

    def __init__(self, opened: Callable[[], io.BufferedReader], size: int, checksum: int) -> None:
        self._opened = opened
        self._source: io.BufferedReader | None = None
        self._declared = (size, checksum)
        self._count = 0
        self._checksum = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return fill(memoryview(buffer).cast("B"), self._once)

    def _once(self, view: memoryview) -> int:
        if self._source is None:
            self._source = self._opened()
        count = self._source.readinto1(view)
        self._count += count
        self._checksum = zlib.crc32(view[:count], self._checksum)
        if self._count > self._declared[0]:
            raise DamagedError(f"unpacks to more than the {self._declared[0]:,} bytes that it declares")
        if not count and (self._count, self._checksum) != self._declared:
            raise DamagedError("a member of a zip file that does not have the size and checksum it declares")
        return count


def _unpacked(stream: io.BufferedReader, entry: _Entry, limits: Limits, meter: Meter) -> io.BufferedReader:
    if not 0 <= entry.start < 1 << 62:
        raise DamagedError("a zip file with a member that lies outside of it")
    stream.seek(entry.start)
    header = stream.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise DamagedError("a member of a zip file without a header")
    name_length, extra_length = struct.unpack_from("<2H", header, _LOCAL.size - 4)
    stream.seek(name_length + extra_length, io.SEEK_CUR)
    portion: Any = Portion(stream, entry.packed)
    packed = io.BufferedReader(portion, PIECE)
    method = _METHODS[entry.method]
    return packed if method == "stored" else decompressed(packed, method, limits, meter)


def _decoded(name: bytes, flags: int) -> str:
    """Names are UTF-8 where they say so, and often where they do not; else of the code page of the first PC."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape") if flags & _UTF_8 else name.decode("cp437")


def _modified(date: int, time: int) -> str:
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    hour, minute, second = time >> 11, time >> 5 & 63, (time & 31) * 2
    if (date, time) in ((0, 0), (0x21, 0)) or not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60):
        return ""  # 1 January 1980 stands for no date
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{min(second, 59):02}"
