"""Crawls in WARC files (ISO 28500:2017; versions 1.0 and 1.1), plain or gzip record by record.

A record says how long it is. Where what it says is wrong, which shows in what follows it, it is refused, and reading
goes on at the next line that begins with `WARC/1.`; in a damaged gzip file, at the next member.
"""

import io
from collections import Counter
from collections.abc import Generator, Iterator, Mapping

from lmworks.corpus.read.compression import Members, decompressed
from lmworks.corpus.read.container import Names, contained, printable, reason_of, too_large
from lmworks.corpus.read.format_detection import compression_of, media_type_of
from lmworks.corpus.read.http_message import content_type, parse_response, payload
from lmworks.corpus.read.record import Item, Limits, Record, Refused
from lmworks.corpus.read.streams import HEAD, DamagedError, head_of, skip

_VERSION = b"WARC/1."
_LINE = 1 << 16  # bytes of a line that are read at once
_HEADER_LINES = 200
_READ_AGAIN = 64_000_000  # bytes that may be read twice, beside as many as were read once
_PLACES = 1000  # of damage in one file
_COUNTED = ("conversion", "continuation", "metadata", "request", "revisit", "warcinfo")


@contained
def read_warc(stream: io.BufferedReader, limits: Limits) -> Iterator[Item]:
    """The payload of each `response` with the status 200 and of each `resource`, called by its address, with the media
    type that it was sent as, and the time of capture as date. Other records are counted."""
    if compression_of(head_of(stream)) == "gzip":
        stream = decompressed(stream, "gzip", limits)
    crawl = _Crawl(stream, limits)
    yield from crawl.read()
    for reason, count in crawl.passed.items():
        yield Refused("", reason, count)


class _Lines:
    """Lines and blocks of a stream, with a way back to what was read under a wrong length."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._again = io.BytesIO()  # what comes before the rest of the stream
        self._read = 0
        self._read_again = 0

    def line(self) -> bytes:
        """The next line, or the next 64 KiB of it; b"" at the end."""
        line = self._again.readline(_LINE)
        if not line.endswith(b"\n") and len(line) < _LINE:
            line += self._stream.readline(_LINE - len(line))
        self._read += len(line)
        return line

    def block(self, size: int) -> bytes:
        """Shorter at the end."""
        block = self._again.read(size)
        if len(block) < size:
            block += self._stream.read(size - len(block))
        self._read += len(block)
        return block

    def skip(self, size: int) -> int:
        """Over `size` bytes; how many are missing at the end."""
        size -= len(self._again.read(size))
        return skip(self._stream, size)

    def go_back(self, data: bytes) -> bool:
        """Put `data` before what follows; False, and nothing is done, where too much was read twice already."""
        self._read_again += len(data)
        if self._read_again > _READ_AGAIN + self._read // 2:
            return False
        self._again = io.BytesIO(data + self._again.read())
        return True


class _Crawl:
    """One file. `passed` counts the records that are none of its pages."""

    def __init__(self, stream: io.BufferedReader, limits: Limits) -> None:
        self.passed: Counter[str] = Counter()
        self._stream = stream
        self._lines = _Lines(stream)
        self._limits = limits
        self._names = Names()

    def read(self) -> Iterator[Item]:
        for _ in range(_PLACES):
            try:
                yield from self._until_damage()
                return
            except OSError as error:
                yield Refused("", reason_of(error))
            raw = self._stream.raw
            if not isinstance(raw, Members) or not raw.resume():
                return
            self._lines = _Lines(self._stream)
        yield Refused("", f"what follows {_PLACES:,} places of damage")

    def _until_damage(self) -> Iterator[Item]:
        foreign = 0
        line = b""
        while line or (line := self._lines.line()):
            if line.startswith(_VERSION):
                if foreign:
                    yield Refused("", f"{foreign:,} bytes that belong to no record")
                    foreign = 0
                line = yield from self._record()
            else:
                foreign += len(line) if line.strip() else 0
                line = b""
        if foreign:
            yield Refused("", f"{foreign:,} bytes that belong to no record")

    def _record(self) -> Generator[Item, None, bytes]:
        """The record behind a version line. Returns the line that follows it, or b"" where that is still to be read."""
        header = self._header()
        length = header.get("content-length", "")
        if "warc-type" not in header or not (length.isascii() and length.isdigit() and len(length) < 19):
            yield Refused("", "a WARC record without a type or a length")
            return b""
        name = printable(header.get("warc-target-uri", "").strip("<> ")) or "unnamed"
        size = int(length)
        is_page = header["warc-type"] in ("response", "resource")
        if is_page and size <= self._limits.record_bytes:
            block = self._lines.block(size)
            missing = size - len(block)
        else:
            block = b""
            missing = self._lines.skip(size)
        line = b"" if missing else self._following()
        if missing or (line and not line.startswith(_VERSION)):
            yield Refused(name, "ends early" if missing else "its length is wrong, or other bytes follow it")
            return self._next_version(block, line)
        if not is_page:
            kind = header["warc-type"]
            self.passed[f"WARC records of type {kind if kind in _COUNTED else 'other'}"] += 1
        elif size > self._limits.record_bytes:
            yield Refused(name, f"{too_large(self._limits)} ({size:,})")
        else:
            yield from self._page(header, name, block)
        return line

    def _header(self) -> dict[str, str]:
        """The named fields up to an empty line, names in lower case; {} where that is no header."""
        header: dict[str, str] = {}
        last = ""
        for _ in range(_HEADER_LINES):
            line = self._lines.line()
            if not line.strip():
                return header
            text = line.decode("utf-8", "replace").strip()
            name, colon, value = text.partition(":")
            if line[:1] in (b" ", b"\t") and last:  # a line that is continued
                header[last] += f" {text}"
            elif colon:
                last = name.strip().lower()
                header[last] = value.strip()
            else:
                return {}
        return {}

    def _following(self) -> bytes:
        """The first line behind a record that is not empty; b"" at the end and at damage, which the next read shows."""
        try:
            while (line := self._lines.line()) and not line.strip():
                pass
        except OSError:
            return b""
        return line

    def _next_version(self, block: bytes, line: bytes) -> bytes:
        """The next version line, behind a record with a wrong length: it may lie in its block, or begin there."""
        data = block + line
        start = data.find(b"\n" + _VERSION)
        if start >= 0 and self._lines.go_back(data[start + 1 :]):
            return self._lines.line()
        while line and not line.startswith(_VERSION):
            line = self._lines.line()
        return line

    def _page(self, header: Mapping[str, str], name: str, block: bytes) -> Iterator[Item]:
        declared = header.get("content-type", "")
        if "warc-segment-number" in header:
            yield Refused(name, "one segment of a record, whose others are elsewhere")
            return
        if header["warc-type"] == "response":
            if not (declared.startswith("application/http") or block.startswith(b"HTTP/")):
                self.passed["responses of other protocols"] += 1
                return
            try:
                response = parse_response(block)
                if response.status != 200:
                    self.passed[f"responses with the status {response.status}"] += 1
                    return
                block = payload(response, self._limits)
            except DamagedError as error:
                yield Refused(name, str(error))
                return
            declared = response.headers.get("content-type", "")
        media_type, charset = content_type(declared)
        facts = {
            "charset": charset,
            "record": header.get("warc-record-id", "").strip("<> "),
            "truncated": header.get("warc-truncated"),  # by the crawler, which says why
        }
        yield Record(
            name=self._names.unique(name),
            content=block,
            media_type=media_type_of(media_type, block[:HEAD]),
            date=header.get("warc-date") or None,
            metadata={key: value for key, value in facts.items() if value},
        )
