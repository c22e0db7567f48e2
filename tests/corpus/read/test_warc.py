"""Crawls written here after ISO 28500, and the HTTP in them against `http.client`."""

import gzip
import http.client
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_cases import LIMITS, SMALL, check_cuts, contents, flipped, kept, read_all, refused, trickle
from lmworks.corpus.read import warc
from lmworks.corpus.read.http_message import content_type, parse_response, payload
from lmworks.corpus.read.record import Limits, Record, Refused
from lmworks.corpus.read.streams import DamagedError
from lmworks.corpus.read.warc import read_warc

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n<p>a page"
NO_VERSIONS = st.binary(max_size=500).filter(lambda raw: b"WARC/1." not in raw)


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


def chunked(parts: list[bytes]) -> bytes:
    pieces = [b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts if part]
    return b"".join(pieces) + b"0\r\nTrailer: x\r\n\r\n"


# ---------------------------------------------------------------------------------------------------------------------
# What is in them


@given(st.lists(NO_VERSIONS, max_size=5), st.sampled_from(["plain", "each", "whole"]))
def test_a_crawl_is_read_back(bodies: list[bytes], packing: str) -> None:
    records = [record(response(body), f"http://example.org/{number}") for number, body in enumerate(bodies)]
    raw = b"".join(gzip.compress(each) if packing == "each" else each for each in records)
    items = read_all(read_warc, gzip.compress(raw) if packing == "whole" else raw)
    assert contents(items) == {f"http://example.org/{number}": body for number, body in enumerate(bodies)}
    assert len(items) == len(bodies)


def test_a_record_tells_where_and_when_it_was_found() -> None:
    (page,) = read_warc(trickle(gzip.compress(record(PAGE, more="WARC-Truncated: length\r\n"))), LIMITS)
    facts = {"charset": "utf-8", "record": "urn:uuid:1", "truncated": "length"}
    assert page == Record("http://example.org/", b"<p>a page", "text/html", "2024-02-29T12:00:00Z", facts)


def test_a_resource_is_its_block() -> None:
    (item,) = read_all(read_warc, record(b"some text", "<file:///a.txt>", "resource"))
    assert isinstance(item, Record)
    assert (item.name, item.content, item.media_type) == ("file:///a.txt", b"some text", "text/plain")


def test_other_records_are_counted() -> None:
    raw = record(b"", kind="warcinfo") + record(b"GET /", kind="request") * 2 + record(b"x", kind="invented")
    raw += record(response(b"", status="404 Not Found")) + record(response(b"", status="301 Moved")) * 2
    raw += record(b"127.0.0.1", "dns:example.org").replace(b"application/http; msgtype=response", b"text/dns")
    assert {(item.name, item.reason, item.count) for item in refused(read_all(read_warc, raw))} == {
        ("", "WARC records of type warcinfo", 1),
        ("", "WARC records of type request", 2),
        ("", "WARC records of type other", 1),
        ("", "responses with the status 404", 1),
        ("", "responses with the status 301", 2),
        ("", "responses of other protocols", 1),
    }


def test_a_page_that_was_found_twice_has_two_names() -> None:
    assert list(contents(read_all(read_warc, record(PAGE) * 2))) == ["http://example.org/", "http://example.org/ (2)"]


def test_the_first_bytes_contradict_the_header() -> None:
    (item,) = read_all(read_warc, record(response(b"%PDF-1.7 ...")))
    assert isinstance(item, Record) and item.media_type == "application/pdf"
    (item,) = read_all(read_warc, record(b"HTTP/1.0 200\r\n\r\n<html><p>no type"))
    assert isinstance(item, Record) and item.media_type == "text/html"


# ---------------------------------------------------------------------------------------------------------------------
# HTTP


class Socket:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._raw)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_chunks_are_joined_as_by_the_standard_library(parts: list[bytes]) -> None:
    raw = response(chunked(parts), "Transfer-Encoding: chunked")
    oracle = http.client.HTTPResponse(Socket(raw))  # type: ignore[arg-type]
    oracle.begin()
    assert payload(parse_response(raw), LIMITS) == oracle.read() == b"".join(parts)


def deflated(raw: bytes) -> bytes:
    return zlib.compress(raw, wbits=-15)


@pytest.mark.parametrize(
    ("headers", "packed"),
    [
        (["Content-Encoding: gzip"], gzip.compress),
        (["content-encoding: X-GZIP"], gzip.compress),
        (["Content-Encoding: deflate"], zlib.compress),
        (["Content-Encoding: deflate"], deflated),
        (["Content-Encoding: deflate, gzip"], lambda raw: gzip.compress(zlib.compress(raw))),
        (["Content-Encoding: deflate", "Content-Encoding: gzip"], lambda raw: gzip.compress(zlib.compress(raw))),
        (["Content-Encoding: identity"], bytes),
        (["Content-Encoding: gzip"], bytes),  # undone by the crawler
        (["Content-Encoding: deflate"], bytes),
        (["Transfer-Encoding: chunked"], bytes),
        (["Transfer-Encoding: chunked", "Content-Encoding: gzip"], lambda raw: chunked([gzip.compress(raw)])),
    ],
)
def test_encodings_are_undone(headers, packed) -> None:
    body = b"<p>" + b"a page " * 20
    assert payload(parse_response(response(packed(body), *headers)), LIMITS) == body


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (response(b"\x0b\x02\x80", "Content-Encoding: br"), "encoding Brotli, which is not undone"),
        (response(b"x", "Content-Encoding: zstd"), "encoding Zstandard, which is not undone"),
        (response(b"x", "Content-Encoding: gzip, gzip, gzip, gzip"), "more than 3 content encodings"),
        (response(gzip.compress(b"page", mtime=0)[:-3], "Content-Encoding: gzip"), "gzip data that end early"),
        (response(gzip.compress(bytes(2000)), "Content-Encoding: gzip"), "unpacks to more than 1,000 bytes"),
        (response(chunked([b"page"])[:-20], "Transfer-Encoding: chunked"), "chunked body"),
        (response(b"4\r\npagex\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "chunked body"),
        (b"<p>no header", "no HTTP response"),
    ],
)
def test_what_cannot_be_undone_is_refused(message: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        payload(parse_response(message), SMALL)
    items = read_all(read_warc, record(message) + record(PAGE, "http://example.org/next"), SMALL)
    assert list(contents(items)) == ["http://example.org/next"]
    assert reason in refused(items)[0].reason and refused(items)[0].name == "http://example.org/"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", ("text/html", None)),
        ('Text/HTML; Charset="ISO-8859-1"', ("text/html", "iso-8859-1")),
        ("text/html;x=y; charset = 'utf-8'", ("text/html", "utf-8")),
        ("text/html; charset=", ("text/html", None)),
        ("nonsense", (None, None)),
        ("", (None, None)),
    ],
)
def test_content_types(value: str, expected: tuple[str | None, str | None]) -> None:
    assert content_type(value) == expected


def test_lines_of_a_header_that_are_continued() -> None:
    message = parse_response(b"HTTP/1.1 200 OK\nContent-Type: text/html;\n  charset=utf-8\nX: 1\n\nbody")
    assert message.headers == {"content-type": "text/html; charset=utf-8", "x": "1"} and message.body == b"body"


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong with them


def test_cut_off_anywhere_it_gives_what_came_before() -> None:
    records = [record(PAGE, f"http://example.org/{number}") for number in range(3)]
    check_cuts(read_warc, b"".join(records))
    check_cuts(read_warc, b"".join(gzip.compress(each) for each in records))
    cut = read_all(read_warc, b"".join(records)[:-20])
    assert list(contents(cut)) == ["http://example.org/0", "http://example.org/1"]
    assert refused(cut) == [Refused("http://example.org/2", "ends early")]


@pytest.mark.parametrize("length", [0, 1, len(PAGE) - 1, len(PAGE) + 5, len(PAGE) + 100, 10**6, 10**9])
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_record_with_a_wrong_length_costs_itself(length: int, packed) -> None:
    raw = packed(record(PAGE, "http://example.org/wrong", length=length))
    raw += packed(record(PAGE, "http://example.org/1")) + packed(record(PAGE, "http://example.org/2"))
    items = read_all(read_warc, raw)
    if length < 10**9:  # one that is too large to be kept takes the others with it
        assert list(contents(items)) == ["http://example.org/1", "http://example.org/2"]
    assert [item.name for item in refused(items)] == ["http://example.org/wrong"]


def test_bytes_between_records_are_told() -> None:
    raw = b"\r\n\r\nnonsense\n" + record(PAGE, "http://example.org/1") + b"\n\n" + record(PAGE, "http://example.org/2")
    items = read_all(read_warc, raw)
    assert len(contents(items)) == 2 and refused(items) == [Refused("", "9 bytes that belong to no record")]
    assert refused(read_all(read_warc, b"no crawl at all")) == [Refused("", "15 bytes that belong to no record")]


@pytest.mark.parametrize("header", [b"Content-Length: x", b"Content-Length: -1", b"nonsense", b"Content-Length: \xb2"])
def test_a_broken_header_costs_its_record(header: bytes) -> None:
    raw = b"WARC/1.0\r\nWARC-Type: response\r\n" + header + b"\r\n\r\nblock\r\n\r\n" + record(PAGE)
    items = read_all(read_warc, raw)
    assert len(contents(items)) == 1
    assert refused(items)[0] == Refused("", "a WARC record without a type or a length")


def test_a_segment_is_refused() -> None:
    (item,) = read_all(read_warc, record(PAGE, more="WARC-Segment-Number: 1\r\n"))
    assert item == Refused("http://example.org/", "one segment of a record, whose others are elsewhere")


@pytest.mark.parametrize("place", [11, 40, -4])
def test_a_damaged_member_of_a_gzip_file_costs_itself(place: int) -> None:
    members = [gzip.compress(record(PAGE + b" %d" % number, f"http://{number}/")) for number in range(5)]
    damaged = bytearray(members[2])
    damaged[place] ^= 0xFF
    items = read_all(read_warc, b"".join([*members[:2], bytes(damaged), *members[3:]]))
    others = [item.name for item in kept(items) if item.name != "http://2/"]
    assert others == ["http://0/", "http://1/", "http://3/", "http://4/"]
    assert refused(items)[0].reason.startswith("damaged gzip data")


@given(st.booleans(), st.data())
def test_flipped_bytes_do_no_harm(packed: bool, data: st.DataObject) -> None:
    in_chunks = response(chunked([b"page"]), "Transfer-Encoding: chunked")
    records = [record(in_chunks), record(PAGE), record(b"", kind="request")]
    raw = b"".join(gzip.compress(each) if packed else each for each in records)
    read_all(read_warc, data.draw(flipped(raw)), SMALL)


def test_a_large_record_is_read_over() -> None:
    raw = record(response(b"x" * 1000), "http://example.org/large") + record(PAGE, "http://example.org/small")
    items = read_all(read_warc, raw, SMALL)
    assert list(contents(items)) == ["http://example.org/small"]
    assert refused(items)[0].reason.startswith("larger than max_bytes = 1,000 bytes")


def test_many_wrong_lengths_are_not_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "_READ_AGAIN", 10_000)
    raw = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 99999\r\n\r\nx\n" * 2000
    items = read_all(read_warc, raw)
    assert not kept(items) and 0 < len(items) < 10


def test_damage_everywhere_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "_PLACES", 5)
    items = read_all(read_warc, gzip.compress(record(PAGE)) + b"\x1f\x8b\x08\x00 no member " * 20)
    assert len(contents(items)) == 1
    assert refused(items)[-1] == Refused("", "what follows 5 places of damage")


def test_no_more_records_are_read_than_asked_for() -> None:
    items = read_all(read_warc, record(PAGE) * 3, Limits(records=1))
    assert len(contents(items)) == 1 and refused(items) == [Refused("", "what follows the first 1 records")]
