"""Crawls written here after ISO 28500, and the HTTP in them."""

import gzip
import zlib
from collections.abc import Callable
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from kit.containers import SMALL, check_cuts, contents, items_of, kept, rejected
from kit.tables import for_each
from lmworks.corpus.read.record import Record
from lmworks.records import RejectedRecord

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n<p>a page"
NO_VERSIONS = st.binary(max_size=500).filter(lambda raw: b"WARC/1." not in raw)
Pack = Callable[[bytes], bytes]


def record(
    block: bytes, uri: str = "http://example.org/", kind: str = "response", length: int | None = None, more: str = ""
) -> bytes:
    media_type = "application/http; msgtype=response" if kind == "response" else "text/plain"
    header = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2024-02-29T12:00:00Z\r\n"
        f"WARC-Target-URI: {uri}\r\nContent-Type: {media_type}\r\n{more}"
        f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/html", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def chunked(*parts: bytes) -> bytes:
    return (
        b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\nTrailer: x\r\n\r\n"
    )


def numbered(count: int, pack: Pack = bytes) -> list[bytes]:
    return [pack(record(PAGE, f"http://{number}/")) for number in range(count)]


@given(st.lists(NO_VERSIONS, min_size=1, max_size=5), st.sampled_from(["plain", "each", "whole"]))
def test_a_crawl_is_read_back(bodies: list[bytes], packing: str) -> None:
    records = [record(response(body), f"http://example.org/{number}") for number, body in enumerate(bodies)]
    raw = b"".join(gzip.compress(each) if packing == "each" else each for each in records)
    items = items_of("a.warc", gzip.compress(raw) if packing == "whole" else raw)
    assert contents(items) == {f"http://example.org/{number}": body for number, body in enumerate(bodies)}
    assert len(items) == len(bodies)


def test_a_record_tells_where_and_when_it_was_found() -> None:
    (page,) = items_of("a.warc.gz", gzip.compress(record(PAGE, more="WARC-Truncated: length\r\n")))
    facts = {"charset": "utf-8", "record": "urn:uuid:1", "truncated": "length"}
    assert page == Record("http://example.org/", b"<p>a page", "text/html", "2024-02-29T12:00:00Z", facts)
    (item,) = items_of("a.warc", record(b"some text", "<file:///a.txt>", "resource"))
    assert isinstance(item, Record)
    assert (item.uri, item.content, item.media_type) == ("file:///a.txt", b"some text", "text/plain")


def test_other_records_are_counted() -> None:
    raw = record(b"", kind="warcinfo") + record(b"GET /", kind="request") * 2 + record(b"x", kind="invented")
    raw += record(response(b"", status="404 Not Found")) + record(response(b"", status="301 Moved")) * 2
    raw += record(b"127.0.0.1", "dns:example.org").replace(b"application/http; msgtype=response", b"text/dns")
    raw += record(PAGE, more="WARC-Segment-Number: 1\r\n")
    found = {item.reason: item.count for item in rejected(items_of("a.warc", raw))}
    assert list(found.values()) == [1, 1, 2, 1, 1, 2, 1] and "responses with the status 301" in found


def deflated(raw: bytes) -> bytes:
    return zlib.compress(raw, wbits=-15)


@for_each(("headers", "packed"), [
    (["Content-Encoding: gzip"], gzip.compress), (["content-encoding: X-GZIP"], gzip.compress),
    (["Content-Encoding: deflate"], zlib.compress), (["Content-Encoding: deflate"], deflated),
    (["Content-Encoding: deflate, gzip"], lambda raw: gzip.compress(zlib.compress(raw))),
    (["Content-Encoding: deflate", "Content-Encoding: gzip"], lambda raw: gzip.compress(zlib.compress(raw))),
    (["Content-Encoding: identity"], bytes), (["Content-Encoding: gzip", "Content-Length: 20"], bytes),
    (["Content-Encoding: deflate"], bytes), (["Transfer-Encoding: chunked"], bytes),
    (["Transfer-Encoding: chunked"], lambda raw: chunked(raw[:50], raw[50:])),
    (["Transfer-Encoding: chunked", "Content-Encoding: gzip"], lambda raw: chunked(gzip.compress(raw))),
])  # fmt: skip
def test_codings_are_undone(headers: list[str], packed: Pack) -> None:
    body = b"<p>" + b"a page " * 20
    assert list(contents(items_of("a.warc", record(response(packed(body), *headers)))).values()) == [body]


@for_each(("message", "reason"), [
    (response(b"\x0b\x02\x80", "Content-Encoding: br"), "content encoding br, which is not undone"),
    (response(b"x", "Content-Encoding: gzip, gzip, gzip, gzip"), "more than 3 content encodings"),
    (response(gzip.compress(b"page", mtime=0)[:-3], "Content-Encoding: gzip"), "gzip data that end early"),
    (response(gzip.compress(bytes(2000)), "Content-Encoding: gzip"), "larger than max_bytes"),
    (response(chunked(b"page")[:-20], "Transfer-Encoding: chunked"), "cannot be read as HTTP: IncompleteRead"),
    (response(b"4\r\npagex\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "cannot be read as HTTP: IncompleteRead"),
    (b"<p>no header", "cannot be read as HTTP: BadStatusLine"), (response(b"x" * 1000), "larger than max_bytes"),
])  # fmt: skip
def test_what_cannot_be_undone_is_rejected(message: bytes, reason: str) -> None:
    items = items_of("a.warc", record(message) + record(PAGE, "http://example.org/next"), SMALL)
    assert list(contents(items)) == ["http://example.org/next"]
    assert [(item.uri, reason in item.reason) for item in rejected(items)] == [("http://example.org/", True)]


@for_each("pack", [bytes, gzip.compress])
def test_cut_off_anywhere_it_gives_what_came_before_and_tells_it(pack: Pack) -> None:
    records = numbered(2, pack)
    raw = b"".join(records)
    check_cuts("a.warc", raw, 3)
    borders = {sum(map(len, records[:count])) for count in range(3)}
    for end in range(1, len(raw), 3):
        # Behind the payload of a plain record only its four line ends are missing, which nothing else tells.
        if not any(0 <= border - end <= (4 if pack is bytes else 0) for border in borders):
            assert rejected(items_of("a.warc", raw[:end])), end


@for_each(
    ("length", "pack"),
    zip([0, 1, len(PAGE) - 1, len(PAGE) + 5, len(PAGE) + 100, 10**6, 10**9], cycle([bytes, gzip.compress])),
)
def test_a_record_with_a_wrong_length_costs_itself(length: int, pack: Pack) -> None:
    raw = pack(record(PAGE, "http://wrong/", length=length)) + b"".join(numbered(2, pack))
    items = items_of("a.warc", raw)
    assert list(contents(items)) == ["http://0/", "http://1/"]
    assert [item.uri for item in rejected(items)] == ["http://wrong/"]


@for_each("header", [b"Content-Length: x", b"Content-Length: -1", b"nonsense", b"Content-Length: \xb2"])
def test_a_broken_header_costs_its_record(header: bytes) -> None:
    raw = b"WARC/1.0\r\nWARC-Type: response\r\n" + header + b"\r\n\r\nblock\r\n\r\n" + record(PAGE)
    items = items_of("a.warc", raw)
    assert len(contents(items)) == 1
    assert rejected(items)[0] == RejectedRecord("", "a WARC record without a length")


@for_each("place", [0, 11, 40, -4])
def test_a_damaged_member_of_a_gzip_file_costs_itself(place: int) -> None:
    members = numbered(5, gzip.compress)
    damaged = bytearray(members[2])
    damaged[place] ^= 0xFF
    items = items_of("a.warc.gz", b"".join([*members[:2], bytes(damaged), *members[3:]]))
    assert [item.uri for item in kept(items)] == ["http://0/", "http://1/", "http://3/", "http://4/"]
    assert [item.reason.split(":")[0] for item in rejected(items)] == ["damaged WARC data"]
