"""What the tests of all containers share: reading bytes, cuts and flips, and peaks of memory."""

import io
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.reader import read_stream
from lmworks.corpus.read.record import Item, Record, Row
from lmworks.records import RejectedRecord

SMALL = ReadConfig(max_bytes=1000)
CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\\:", exclude_categories=["C"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=20)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)


def items_of(name: str, raw: bytes, config: ReadConfig | None = None) -> list[Item]:
    """What a file of these bytes comes to, in this process."""
    stream: Any = io.BytesIO(raw)
    return list(read_stream(name, io.BufferedReader(stream), config or ReadConfig()))


def kept(items: Iterable[Item]) -> list[Record | Row]:
    return [item for item in items if not isinstance(item, RejectedRecord)]


def rejected(items: Iterable[Item]) -> list[RejectedRecord]:
    return [item for item in items if isinstance(item, RejectedRecord)]


def contents(items: Iterable[Item]) -> dict[str, bytes]:
    return {item.uri: item.content for item in items if isinstance(item, Record)}


def texts(items: Iterable[Item]) -> list[str]:
    return [item.text for item in items if isinstance(item, Row)]


def check_cuts(name: str, raw: bytes, step: int = 1, start: int = 0) -> None:
    """Cut anywhere, a container gives the records before the cut as they were, and raises nothing."""
    whole = kept(items_of(name, raw))
    for end in range(start, len(raw), step):
        found = kept(items_of(name, raw[:end]))
        assert found == whole[: len(found)], end


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


def zipped(files: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items():
            stored = name == "mimetype"  # as EPUB demands
            info = zipfile.ZipInfo(name, (2024, 2, 29, 12, 30, 58))
            archive.writestr(info, content, zipfile.ZIP_STORED if stored else method)
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
