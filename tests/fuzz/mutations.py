"""Valid files made invalid: bytes flipped, ranges cut and repeated, numbers that lie, in and behind a packing."""

import bz2
import gzip
import io
import lzma
import random
import re
import zipfile
from collections.abc import Callable, Sequence

from reader_samples import zstd

from kit.containers import zipped

Mutate = Callable[[bytes, random.Random], bytes]

MOST = 1 << 16  # bytes of a mutated file; what needs more is a test of its own
_NUMBERS = (b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"4294967295", b"9223372036854775807", b"1" * 25)
_BYTES = (0, 1, 0x0A, 0x20, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBER = re.compile(rb"\d{1,20}")
_REPEATS = (2, 3, 10, 100, 1000)


def mutated(data: bytes, choose: random.Random, tokens: Sequence[bytes] = (), others: Sequence[bytes] = ()) -> bytes:
    """`data` after one to five changes. `tokens` are pieces that mean something in its format, `others` whole files."""
    for _ in range(choose.randint(1, 5)):
        data = _step(data, choose, tokens, others)[:MOST]
    return data


def _step(data: bytes, choose: random.Random, tokens: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    start, end = sorted(choose.randint(0, len(data)) for _ in range(2))
    if choose.random() < 0.7:  # most changes are of a small place
        end = min(end, start + choose.randint(0, 16))
    piece = data[start:end]
    match choose.choice(("flip", "set", "cut", "drop", "repeat", "move", "number", "token", "token", "lie", "splice")):
        case "flip":
            changed = bytes(byte ^ (1 << choose.randint(0, 7)) for byte in piece[:8])
            return data[:start] + changed + data[start + len(changed) :]
        case "set":
            return data[:start] + bytes([choose.choice(_BYTES)]) * len(piece) + data[end:]
        case "cut":
            return data[:start]
        case "drop":
            return data[:start] + data[end:]
        case "repeat":
            return data[:start] + piece * choose.choice(_REPEATS) + data[end:]
        case "move":
            rest = data[:start] + data[end:]
            place = choose.randint(0, len(rest))
            return rest[:place] + piece + rest[place:]
        case "number":
            if found := _NUMBER.search(data, start) or _NUMBER.search(data):
                return data[: found.start()] + choose.choice(_NUMBERS) + data[found.end() :]
            return data
        case "token" if tokens:
            return data[:start] + choose.choice(tokens) * choose.choice((1, 1, 1, *_REPEATS)) + data[start:]
        case "lie":  # a length of two, four or eight bytes
            width = choose.choice((2, 4, 8))
            value = choose.choice(
                (0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, len(data))
            )
            told = (value % 2 ** (8 * width)).to_bytes(width, choose.choice(("little", "big")))
            return data[:start] + told + data[start + width :]
        case "splice" if others:
            other = choose.choice(others)
            return data[:start] + other[choose.randint(0, len(other)) :]
        case _:
            return data + choose.randbytes(choose.randint(1, 20))


def inside_zip(change: Mutate) -> Mutate:
    """One member changed, and the archive made anew."""

    def mutate(data: bytes, choose: random.Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                files = {info.filename: archive.read(info) for info in archive.infolist() if info.file_size <= MOST}
        except Exception:  # it is no archive any more
            return change(data, choose)
        if not files:
            return change(data, choose)
        name = choose.choice(list(files))
        files[name] = change(files[name], choose)
        return zipped(files)

    return mutate


def inside(packing: str, change: Mutate) -> Mutate:
    """The content of a compressed file changed, and packed anew."""
    unpack, pack = {
        "gzip": (gzip.decompress, lambda content: gzip.compress(content, mtime=0)),
        "bzip2": (bz2.decompress, bz2.compress),
        "xz": (lzma.decompress, lzma.compress),
        "zstd": (_unpack_zstd, zstd),
    }[packing]

    def mutate(data: bytes, choose: random.Random) -> bytes:
        try:
            content = unpack(data)
        except Exception:  # it is no such file any more
            return change(data, choose)
        return pack(change(content[:MOST], choose))

    return mutate


def _unpack_zstd(data: bytes) -> bytes:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read(MOST)


def with_tar_checksums(change: Mutate) -> Mutate:
    """Each header block that is one gets the checksum of what it says now (POSIX.1-2017, `pax`, ustar)."""

    def mutate(data: bytes, choose: random.Random) -> bytes:
        changed = bytearray(change(data, choose))
        for start in range(0, len(changed) - 511, 512):
            if changed[start + 257 : start + 262] == b"ustar":
                changed[start + 148 : start + 156] = b" " * 8
                changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
        return bytes(changed)

    return mutate


_WARC_LENGTH = re.compile(rb"Content-Length: \d+(\r\n\r\n)(.*?)(?=\r\n\r\nWARC/1|\r\n\r\n\Z)", re.S)


def with_warc_lengths(change: Mutate) -> Mutate:
    """Each record says how long it is now."""

    def mutate(data: bytes, choose: random.Random) -> bytes:
        def told(found: re.Match[bytes]) -> bytes:
            return b"Content-Length: %d%s%s" % (len(found[2]), found[1], found[2])

        return _WARC_LENGTH.sub(told, change(data, choose))

    return mutate


def either(*ways: Mutate) -> Mutate:
    def mutate(data: bytes, choose: random.Random) -> bytes:
        return choose.choice(ways)(data, choose)

    return mutate
