"""Crawls in WARC files (ISO 28500:2017; versions 1.0 and 1.1), plain or compressed, by FastWARC.

FastWARC ends without a word where a file is cut off, and for good at the first damage. So what a record holds is
compared with its declared length, and behind damage reading continues where the next record seems to begin.

A crawler may have undone the coding of a page and left the header as the server sent it. So a body that does not begin
as its header says is taken as it is, while one that begins so and then breaks is rejected; and the length in that
header is not compared, for the same reason.
"""

import io
import re
from collections import Counter
from collections.abc import Generator, Iterator
from http.client import HTTPResponse
from typing import Any

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import printable
from lmworks.corpus.read.archives import open_compressed
from lmworks.corpus.read.byte_budget import FATAL, HEAD, PIECE, ByteBudget, head_of
from lmworks.corpus.read.format_detection import media_type_of
from lmworks.corpus.read.record import Item, Names, Record, reason_of
from lmworks.records import RejectedRecord

_PLACES = 100  # of damage in one file
_MEMBER, _RECORD = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), re.compile(rb"(?<=\n)WARC/1\.")  # how they begin
_CODINGS = 3  # content codings over each other
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(?:;[^\r\n]*)?\r?\n")
_OTHER_HTTP = re.compile(rb"\AHTTP/[2-9](?:\.\d)?(?=[ \t])")  # whose responses are kept in the form of 1.1
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:+-]{1,40})""", re.IGNORECASE)


def read_warc(stream: io.BufferedReader, budget: ByteBudget) -> Iterator[Item]:
    """The payload of each `response` with the status 200 and of each `resource`, called by its address, with the media
    type that it was sent as, and the time of capture as date. Other records are counted. In a stream that cannot be
    sought, damage ends the reading."""
    begins = _RECORD if b"WARC/1." in head_of(stream) else _MEMBER
    crawl = _Crawl(stream, budget)
    start: int | None = 0
    for _ in range(_PLACES):
        damage = yield from crawl.until_damage(start)
        start = None if damage is None or not stream.seekable() else _next(stream, damage + 1, begins)
        if start is None:
            break
    else:
        yield RejectedRecord("", f"what follows {_PLACES} places of damage")
    if begins is _MEMBER and stream.seekable():
        yield from _cut_member(stream, crawl.at, budget)
    for reason, count in crawl.passed.items():
        yield RejectedRecord("", reason, count)


def _next(stream: io.BufferedReader, position: int, begins: re.Pattern[bytes]) -> int | None:
    """Where a record seems to begin behind a position."""
    stream.seek(position)
    data = b""
    while piece := stream.read(PIECE):
        data = data[-8:] + piece  # so that a beginning across two pieces is seen
        position += len(piece)
        if found := begins.search(data):
            return position - len(data) + found.start()
    return None


def _cut_member(stream: io.BufferedReader, start: int, budget: ByteBudget) -> Iterator[RejectedRecord]:
    """One rejected record if the last member of a gzip file lacks its end, which holds the checksum; it begins at the
    start of the file where that holds many records."""
    stream.seek(start)
    if not _MEMBER.match(head_of(stream)):
        stream.seek(0)
    try:
        unpacked = open_compressed(stream, "gzip", budget)
        while unpacked.read(PIECE):
            pass
    except UnusableError as error:
        yield RejectedRecord("", str(error))
    except FATAL:
        raise
    except Exception:  # other damage, which was told
        return


class _Crawl:
    """One file. `passed` counts the records that are none of its pages; `at` is where the last record begins."""

    def __init__(self, stream: io.BufferedReader, budget: ByteBudget) -> None:
        self.passed: Counter[str] = Counter()
        self.at = 0
        self._stream, self._budget = stream, budget
        self._names = Names()

    def until_damage(self, start: int) -> Generator[Item, None, int | None]:
        """Returns where the record begins that is damaged; None at the end. A record is given when the header of the
        next one was seen: only that shows that its length was right."""
        from fastwarc import ArchiveIterator

        if start:
            self._stream.seek(start)
        self.at = start
        held: list[Item] = []
        name = ""
        try:
            stream: Any = self._stream if self._stream.seekable() else _Forward(self._stream)
            for record in ArchiveIterator(stream, parse_http=False, max_header_len=PIECE):
                yield from held
                self.at, held = record.stream_pos, []
                name = printable((record.headers.get("WARC-Target-URI") or "").strip("<> ")) or "unnamed"
                if not (record.headers.get("Content-Length") or "").isdecimal():
                    yield RejectedRecord("", "a WARC record without a length")
                    return self.at
                block = self._block(record)
                if block is None:
                    yield RejectedRecord(name, "ends early")
                    return self.at
                held = list(self._items(record, name, block))
        except OSError as error:
            if name and "header" in str(error):
                yield RejectedRecord(name, "its length is wrong, or other bytes follow it")
            elif name or not start:  # else it is the damage that was told
                yield from held
                yield RejectedRecord("", f"damaged WARC data: {error}"[:300])
            return self.at
        yield from held
        return None

    def _block(self, record: Any) -> bytes | None:
        """The bytes of a page, b"" for any other record; None where it ends early."""
        size = record.content_length
        if _is_page(record) and size <= self._budget.record_bytes:
            block = record.reader.read(size)
            self._budget.take(size)
            return block if len(block) == size else None
        return b"" if record.consume() == size else None

    def _items(self, record: Any, name: str, block: bytes) -> Iterator[Item]:
        """The page, or why there is none."""
        if not _is_page(record):
            self.passed[f"WARC records of type {record.record_type}"] += 1
        elif record.content_length > self._budget.record_bytes:
            yield RejectedRecord(name, f"{self._budget.too_large} ({record.content_length:,})")
        elif "WARC-Segment-Number" in record.headers:
            yield RejectedRecord(name, "one segment of a record, whose others are elsewhere")
        else:
            try:
                yield from self._page(record, name, block)
            except FATAL:
                raise
            except Exception as error:  # of broken codings and headers
                yield RejectedRecord(name, reason_of(error, "HTTP"))

    def _page(self, record: Any, name: str, body: bytes) -> Iterator[Record]:
        declared = record.headers.get("Content-Type") or ""
        if str(record.record_type) == "response":
            if not (declared.startswith("application/http") or body.startswith(b"HTTP/")):
                self.passed["responses of other protocols"] += 1
                return
            response = HTTPResponse(_Message(_OTHER_HTTP.sub(b"HTTP/1.1", body)))  # type: ignore[arg-type]
            response.begin()
            if response.status != 200:
                self.passed[f"responses with the status {response.status}"] += 1
                return
            # The body without its transfer and content codings.
            begin = response.fp.tell()  # type: ignore[attr-defined]
            body = response.fp.read()  # type: ignore[attr-defined]
            if response.chunked and _CHUNK.match(body):
                response.fp.seek(begin)  # type: ignore[attr-defined]
                body = response.read()
            codings = ",".join(response.headers.get_all("content-encoding", [])).lower().split(",")
            codings = [coding for each in codings if (coding := each.strip()) not in ("", "identity")]
            if len(codings) > _CODINGS:
                raise UnusableError(f"more than {_CODINGS} content encodings over each other")
            for coding in reversed(codings):
                body = _decoded(body, coding, self._budget)
            declared = response.headers.get("content-type", "")
        media_type, charset = content_type(declared)
        facts = {
            "charset": charset,
            "record": (record.headers.get("WARC-Record-ID") or "").strip("<> "),
            "truncated": record.headers.get("WARC-Truncated"),  # by the crawler, which says why
        }
        yield Record(
            self._names.unique(name),
            body,
            media_type_of(media_type, body[:HEAD]),
            record.headers.get("WARC-Date") or None,
            {key: value for key, value in facts.items() if value},
        )


def _is_page(record: Any) -> bool:
    return str(record.record_type) in ("response", "resource")


class _Forward(io.RawIOBase):
    """A stream that cannot be sought, but says where it is: FastWARC ends the process at one that does not."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._at = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read1(size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """The place, which is all that is asked for, by `IOBase.tell`."""
        return self._at


class _Message:
    """A socket, as `http.client` needs one to read a response."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _decoded(body: bytes, coding: str, budget: ByteBudget) -> bytes:
    is_plain = not body or body.lstrip()[:1] in (b"<", b"{", b"[")  # its coding was undone before it was stored
    match coding:
        case "gzip" | "x-gzip":
            packing = "gzip" if body.startswith(b"\x1f\x8b") else ""
        case "deflate":  # which means zlib, but some servers send it bare
            is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
            packing = "zlib" if is_zlib else "" if is_plain else "deflate"
        case _:
            raise UnusableError(
                f"in the content encoding {coding[:40]}, which is not undone: have the crawler ask for gzip"
            )
    stream: Any = io.BytesIO(body)
    return budget.content(open_compressed(stream, packing, budget)) if packing else body


def content_type(value: str) -> tuple[str | None, str | None]:
    """The media type in a Content-Type header and its charset, in lower case; None for what is missing or malformed."""
    media_type = value.partition(";")[0].strip().lower()
    charset = _CHARSET.search(value)
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None, charset[1].lower() if charset else None
