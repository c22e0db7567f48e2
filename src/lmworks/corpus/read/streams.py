"""Streams that are read once and in pieces, and a count of what they unpack to."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

PIECE = 1 << 16  # bytes that a stream is read by
HEAD = 1 << 12  # bytes at the beginning that tell a format
_FREE = 100_000_000  # bytes that a source may unpack to, however small it is


class DamagedError(OSError):
    """Bytes that end early, or are not what their format says; the message is the reason that `Refused` shows."""


class Meter:
    """Bytes taken from one source, and bytes that all which is packed in it, at any depth, has unpacked to."""

    def __init__(self, ratio: int) -> None:
        self.ratio = ratio
        self.taken = 0
        self.unpacked = 0

    @property
    def exceeded(self) -> bool:
        return self.unpacked > max(_FREE, self.ratio * self.taken)

    @property
    def reason(self) -> str:
        return f"unpacks to more than {self.ratio:,} times its size"


def buffered(stream: BinaryIO, meter: Meter | None = None) -> io.BufferedReader:
    """The stream with `peek`, `read1`, and a `readline` that takes a limit; what it gives is counted in `meter`.

    Anything with `read` will do. The stream itself is never closed.
    """
    if meter is None and isinstance(stream, io.BufferedReader):
        return stream
    return io.BufferedReader(_Counted(stream, meter), PIECE)


def in_memory(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(_Counted(io.BytesIO(content), None), PIECE)


def head_of(stream: io.BufferedReader) -> bytes:
    """The first bytes of a stream that was not read yet, without reading them. b"" where even they are damaged, which
    the next read tells."""
    try:
        return stream.peek(HEAD)[:HEAD]
    except DamagedError:
        return b""


def read_at_most(stream: io.BufferedReader, limit: int) -> bytes | None:
    """All that is left of the stream; None where that is more than `limit` bytes, of which one more is read."""
    pieces: list[bytes] = []
    left = limit + 1
    while left and (piece := stream.read(min(left, 16 * PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces) if left else None


def skip(stream: io.BufferedReader, size: int) -> int:
    """Read over `size` bytes; how many are missing at the end of the stream."""
    while size and (piece := stream.read(min(size, PIECE))):
        size -= len(piece)
    return size


def fill(view: memoryview, read: Callable[[memoryview], int]) -> int:
    """Fill `view` by as many calls of `read` as it takes; what came before an error is given before the error is."""
    filled = 0
    while filled < len(view):
        try:
            count = read(view[filled:])
        except OSError:
            if filled:
                break
            raise
        if not count:
            break
        filled += count
    return filled


class Portion(io.RawIOBase):
    """The next `size` bytes of a stream, as a stream of their own; DamagedError where there are not so many."""

    def __init__(self, stream: io.BufferedReader, size: int) -> None:
        self._stream = stream
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        count = fill(view[: self.left], self._once)
        self.left -= count
        return count

    def skip(self) -> None:
        """To the end of the portion."""
        missing, self.left = skip(self._stream, self.left), 0
        if missing:
            raise DamagedError("ends before its declared length")

    def _once(self, view: memoryview) -> int:
        count = self._stream.readinto1(view)
        if not count:
            raise DamagedError("ends before its declared length")
        return count


class _Counted(io.RawIOBase):
    """Any object with `read` as what `io.BufferedReader` reads from."""

    def __init__(self, stream: BinaryIO, meter: Meter | None) -> None:
        self._stream = stream
        self._meter = meter

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        seekable = getattr(self._stream, "seekable", None)
        return seekable is not None and seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any, /) -> int:
        count = fill(memoryview(buffer).cast("B"), self._once)
        if self._meter is not None:
            self._meter.taken += count
        return count

    def _once(self, view: memoryview) -> int:
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)
