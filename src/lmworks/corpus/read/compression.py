"""Compressed streams, unpacked in bounded memory: gzip, bzip2, xz and Zstandard.

What was good before damage is given, less at most 16 KiB; then every read raises DamagedError with the reason. A
stream that unpacks to more than `Limits.ratio` times its size ends in the same way, once that is more than 100 MB.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, Protocol

from lmworks.corpus.read.format_detection import Compression
from lmworks.corpus.read.record import Limits
from lmworks.corpus.read.streams import PIECE, DamagedError, Meter, buffered, fill

# Beside files, the two that archives and HTTP hold bare: DEFLATE (RFC 1951) and zlib (RFC 1950), one stream each.
Packing = Compression | Literal["deflate", "zlib"]

_INPUT = _OUTPUT = 1 << 14  # a step of the decompressors, which give nothing of the step in which they find damage
_OUTPUT_OF_ZSTD = 1 << 12  # bytes; pyarrow gives nothing of a read in which it finds damage
_XZ_MEMORY = 1 << 28  # bytes; `xz -9` needs a quarter
_FAILURES = (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError)


def decompressed(stream: BinaryIO, packing: Packing, limits: Limits, meter: Meter | None = None) -> io.BufferedReader:
    """What the stream unpacks to; it cannot be sought.

    `meter` is that of the source in which the stream lies. Without one the stream is the source.
    """
    if meter is None:
        meter = Meter(limits.ratio)
        source = buffered(stream, meter)
    else:
        source = buffered(stream)
    unpacked = _Zstandard(source, meter) if packing == "zstd" else Members(source, packing, meter)
    return io.BufferedReader(unpacked, PIECE)


class _Unpacked(io.RawIOBase):
    """A raw stream over `_unpack`, whose first failure is its last word."""

    def __init__(self, source: io.BufferedReader, packing: Packing, meter: Meter) -> None:
        self._source = source
        self._packing: Packing = packing
        self._meter = meter
        self._failure = ""

    def _unpack(self, size: int) -> bytes:
        """The next bytes, at most `size` of them; b"" at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return fill(memoryview(buffer).cast("B"), self._once)

    def _once(self, view: memoryview) -> int:
        if self._failure:
            raise DamagedError(self._failure)
        try:
            data = self._unpack(min(len(view), _OUTPUT))
        except DamagedError as error:
            self._failure = str(error)
            raise
        except _FAILURES as error:
            self._failure = f"damaged {self._packing} data: {error}"
            raise DamagedError(self._failure) from error
        view[: len(data)] = data
        self._meter.unpacked += len(data)
        if self._meter.exceeded:
            self._failure = self._meter.reason
        return len(data)


class _Decompressor(Protocol):
    """What `bz2.BZ2Decompressor` and `lzma.LZMADecompressor` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decompressor in the shape of the others; `given` is what it was given last."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)
        self.given = b""

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self.given = self._inflate.unconsumed_tail + data
        return self._inflate.decompress(self.given, max_length)


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "bzip2": bz2.BZ2Decompressor,
    "deflate": lambda: _Zlib(-zlib.MAX_WBITS),
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    "zlib": lambda: _Zlib(zlib.MAX_WBITS),
}


class Members(_Unpacked):
    """Compressed streams one after the other, which is what files of gzip, bzip2 and xz are."""

    def __init__(self, source: io.BufferedReader, packing: Packing, meter: Meter) -> None:
        super().__init__(source, packing, meter)
        self._decompressor = _DECOMPRESSORS[packing]()
        self._pending = b""  # read, but not given to the decompressor

    def resume(self) -> bool:
        """After damage, go on where the next member of a gzip file seems to begin; False where there is none.

        A wrong guess (one in 16 MB of compressed data, about) is damage again.
        """
        if not isinstance(self._decompressor, _Zlib) or self._packing != "gzip" or self._meter.exceeded:
            return False
        rest = self._decompressor.given[1:]
        while (start := _member_start(rest)) < 0:
            more = self._source.read1(_INPUT)
            if not more:
                return False
            rest = rest[-3:] + more
        self._failure = ""
        self._decompressor, self._pending = _DECOMPRESSORS["gzip"](), rest[start:]
        return True

    def _unpack(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof and not self._another():
                return b""
            data, self._pending, ended = self._pending, b"", False
            if not data and self._decompressor.needs_input:
                data = self._source.read1(_INPUT)
                ended = not data
            unpacked = self._decompressor.decompress(data, size)
            if unpacked:
                return unpacked
            if ended and not self._decompressor.eof:
                raise DamagedError(f"{self._packing} data that end early")

    def _another(self) -> bool:
        """Whether something follows the stream that has ended: zeros are padding, all else has to be another stream."""
        if self._packing in ("deflate", "zlib"):
            return False
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while not rest and (more := self._source.read1(_INPUT)):
            rest = more.lstrip(b"\0")
        if not rest:
            return False
        self._decompressor, self._pending = _DECOMPRESSORS[self._packing](), rest
        return True


def _member_start(data: bytes) -> int:
    """Where the first four bytes of a gzip header stand: two of magic, the method, flags of which three bits are 0."""
    start = data.find(b"\x1f\x8b\x08")
    while 0 <= start < len(data) - 3 and data[start + 3] > 0x1F:
        start = data.find(b"\x1f\x8b\x08", start + 1)
    return start if start < len(data) - 3 else -1


class _Zstandard(_Unpacked):
    def __init__(self, source: io.BufferedReader, meter: Meter) -> None:
        import pyarrow

        super().__init__(source, "zstd", meter)
        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(source, mode="r"), "zstd")

    def _unpack(self, size: int) -> bytes:
        return self._stream.read(min(size, _OUTPUT_OF_ZSTD))
