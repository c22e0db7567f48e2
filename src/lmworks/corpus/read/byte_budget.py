"""How many bytes a file may come to: what it unpacks to is counted against what was read of it."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from lmworks.artefact import UnreachableError
from lmworks.corpus.documents import UnusableError

PIECE = 1 << 16  # bytes that a stream is read by
HEAD = 1 << 12  # bytes at the beginning that tell a format
FREE, RATIO = 100_000_000, 200


class BudgetError(ValueError):
    """A file that unpacks to more than it may: nothing more of it is read."""


# What is no property of the record at which it comes.
FATAL = (BudgetError, MemoryError, UnreachableError)


class ByteBudget:
    """A limit on the bytes of a record, and on all that a file unpacks to, at any depth: 100 MB or 200 times what was
    read of it, whichever is more."""

    def __init__(self, source: BinaryIO, record_bytes: int) -> None:
        self.record_bytes = record_bytes
        self._source = source
        self._read = self._unpacked = 0

    def take(self, size: int) -> None:
        """Count so many bytes as unpacked; BudgetError where that is more than there may be."""
        self._read = max(self._read, self._source.tell())
        self._unpacked += size
        if self._unpacked > max(FREE, RATIO * self._read):
            raise BudgetError(f"unpacks to more than {RATIO} times its size; what follows is not read")

    def content(self, stream: BinaryIO, size: int | None = None) -> bytes:
        """All that is left of a stream, which declares `size`; UnusableError for more than a record may have."""
        if size is not None and size > self.record_bytes:
            raise UnusableError(f"{self.too_large} ({size:,})")
        pieces: list[bytes] = []
        left = self.record_bytes + 1
        while left and (piece := stream.read(min(left, 16 * PIECE))):
            pieces.append(piece)
            left -= len(piece)
        if not left:
            raise UnusableError(self.too_large)
        return b"".join(pieces)

    @property
    def too_large(self) -> str:
        """The reason to reject a larger record."""
        return f"larger than max_bytes = {self.record_bytes:,} bytes"


class _Read(io.RawIOBase):
    def __init__(self, read: Callable[[int], bytes], budget: ByteBudget | None) -> None:
        self._read, self._budget = read, budget
        self._failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """At least a head, which is looked at together, where there is so much; what came before an error first."""
        if self._failure is not None:
            raise self._failure
        filled = 0
        while filled < min(len(buffer), HEAD):
            try:
                data = self._read(min(len(buffer) - filled, PIECE))
                if self._budget is not None:
                    self._budget.take(len(data))
            except Exception as error:
                self._failure = error
                if filled:
                    break
                raise
            if not data:
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled


def stream_of(read: Callable[[int], bytes], budget: ByteBudget | None = None) -> io.BufferedReader:
    """A stream, which cannot be sought, of what `read` gives by at most so many bytes; a budget counts them as
    unpacked."""
    raw: Any = _Read(read, budget)
    return io.BufferedReader(raw, PIECE)


def head_of(stream: io.BufferedReader) -> bytes:
    """The first bytes of a stream that was not read yet, without reading them. b"" where even they are damaged, which
    the next read tells."""
    try:
        return stream.peek(HEAD)[:HEAD]
    except FATAL:
        raise
    except Exception:  # each decompressor has errors of its own
        return b""
