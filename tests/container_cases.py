"""What the tests of all containers share: reading bytes, streams that trickle, cuts and flips, and peaks of memory."""

import io
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from hypothesis import strategies as st

from lmworks.corpus.read.record import Item, Limits, Record, Refused, Row

LIMITS = Limits()
SMALL = Limits(record_bytes=1000)
CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\\:", exclude_categories=["C"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=20)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)


def read_all(read: Callable[..., Iterator[Item]], raw: bytes, limits: Limits = LIMITS, *rest: Any) -> list[Item]:
    return list(read(io.BytesIO(raw), limits, *rest))


def kept(items: Iterable[Item]) -> list[Record | Row]:
    return [item for item in items if not isinstance(item, Refused)]


def refused(items: Iterable[Item]) -> list[Refused]:
    return [item for item in items if isinstance(item, Refused)]


def contents(items: Iterable[Item]) -> dict[str, bytes]:
    return {item.name: item.content for item in items if isinstance(item, Record)}


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time and cannot be sought."""

    def __init__(self, raw: bytes, size: int = 7) -> None:
        self._inside = io.BytesIO(raw)
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._inside.read(min(self._size, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def trickle(raw: bytes, size: int = 7) -> BinaryIO:
    return Trickle(raw, size)  # type: ignore[return-value]  # it has what a reader uses


def check_cuts(read: Callable[..., Iterator[Item]], raw: bytes, step: int = 1) -> None:
    """Cut anywhere, a container gives the records before the cut as they were, and raises nothing."""
    whole = kept(read_all(read, raw))
    for end in range(0, len(raw), step):
        found = kept(read_all(read, raw[:end]))
        assert found == whole[: len(found)], end


@st.composite
def flipped(draw: st.DrawFn, raw: bytes) -> bytes:
    """`raw` with one to five bytes changed."""
    damaged = bytearray(raw)
    for position in draw(st.sets(st.integers(0, len(raw) - 1), min_size=1, max_size=5)):
        damaged[position] ^= draw(st.integers(1, 255))
    return bytes(damaged)


@contextmanager
def peak_below(most: int) -> Iterator[None]:
    """Fails where Python holds more than `most` bytes at once, beyond what it held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        assert tracemalloc.get_traced_memory()[1] - before < most
    finally:
        tracemalloc.stop()


def zeros_deflated(size: int) -> bytes:
    """Raw DEFLATE of `size` zero bytes, a multiple of 8 MB, in a thousandth of them; fast, since most of it repeats."""
    step = 8_000_000
    assert size % step == 0
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    return pieces[0] + pieces[1] * (size // step - 1) + packer.flush(zlib.Z_FINISH)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 2, 29, 12, 30, 58)), content, method)
        archive.comment = comment
    return sink.getvalue()


def tarred(
    files: dict[str, bytes] | list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT, **settings: Any
) -> bytes:
    sink = io.BytesIO()
    named = [] if isinstance(files, list) else [(tarfile.TarInfo(name), content) for name, content in files.items()]
    with tarfile.open(fileobj=sink, mode="w", format=form, **settings) as archive:
        for info, content in files if isinstance(files, list) else named:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()
