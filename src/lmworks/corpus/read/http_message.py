"""HTTP/1.1 responses as crawls keep them: the header parsed, the body freed from its transfer and content codings.

A crawler may have undone a coding and left the header as the server sent it. So a body that does not begin as its
header says is taken as it is, while one that begins so and then breaks is refused; and the length that the header gives
is not compared, for the same reason.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lmworks.corpus.read.compression import Packing, decompressed
from lmworks.corpus.read.record import Limits
from lmworks.corpus.read.streams import DamagedError, in_memory, read_at_most

_CODINGS = 3  # content codings over each other
_HEADER = 1 << 20  # bytes of a header; servers send no more than some tens of thousands
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?!\d)")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:+-]{1,40})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case; of several with one name the first, but all of codings
    body: bytes


def parse_response(message: bytes) -> Response:
    """A status line, a header of at most 1 MiB and a body (RFC 9112, section 2.1). DamagedError where there is no such
    thing."""
    status = _STATUS.match(message)
    end = _END_OF_HEADER.search(message, 0, _HEADER)
    if status is None or end is None:
        raise DamagedError("no HTTP response")
    return Response(int(status[1]), _fields(message[: end.start()]), message[end.end() :])


def payload(response: Response, limits: Limits) -> bytes:
    """The body without its codings. DamagedError where one is broken, is not known, or unpacks to too much."""
    body = response.body
    if "chunked" in response.headers.get("transfer-encoding", "").lower() and _CHUNK.match(body):
        body = _unchunked(body)
    codings = [each.strip() for each in response.headers.get("content-encoding", "").lower().split(",")]
    codings = [each for each in codings if each not in ("", "identity")]
    if len(codings) > _CODINGS:
        raise DamagedError(f"more than {_CODINGS} content encodings over each other")
    for coding in reversed(codings):
        body = _decoded(body, coding, limits)
    return body


def content_type(value: str) -> tuple[str | None, str | None]:
    """The media type in a Content-Type header and its charset, in lower case; None for what is missing or malformed."""
    media_type = value.partition(";")[0].strip().lower()
    charset = _CHARSET.search(value)
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None, charset[1].lower() if charset else None


def _fields(header: bytes) -> dict[str, str]:
    """The fields behind the first line; a line that begins with white space continues the one before."""
    fields: dict[str, str] = {}
    codings: dict[str, list[str]] = {}
    lines = re.sub(rb"\r?\n[ \t]+", b" ", header).decode("latin-1").split("\n")[1:]
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if colon and name.endswith("-encoding"):
            codings.setdefault(name, []).append(value)
        elif colon:
            fields.setdefault(name, value)
    return fields | {name: ", ".join(values) for name, values in codings.items()}


def _unchunked(body: bytes) -> bytes:
    """RFC 9112, section 7.1; the trailer is left out."""
    pieces: list[bytes] = []
    position = 0
    while (chunk := _CHUNK.match(body, position)) and (size := int(chunk[1], 16)):
        end = chunk.end() + size
        if end > len(body):
            raise DamagedError("a chunked body that ends early")
        pieces.append(body[chunk.end() : end])
        position = end + (2 if body.startswith(b"\r\n", end) else 1)
    if chunk is None:
        raise DamagedError("a chunked body that is broken or ends early")
    return b"".join(pieces)


def _decoded(body: bytes, coding: str, limits: Limits) -> bytes:
    packing = _packing(body, coding)
    if packing is None:
        return body
    unpacked = read_at_most(decompressed(in_memory(body), packing, limits), limits.record_bytes)
    if unpacked is None:
        raise DamagedError(f"unpacks to more than {limits.record_bytes:,} bytes")
    return unpacked


def _packing(body: bytes, coding: str) -> Packing | None:
    """None for a body whose coding was undone before it was stored."""
    if coding in ("gzip", "x-gzip"):
        return "gzip" if body.startswith(b"\x1f\x8b") else None
    if coding == "deflate":  # which means zlib, but some servers send it bare
        if len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0:
            return "zlib"
        return None if not body or body.lstrip()[:1] in (b"<", b"{", b"[") else "deflate"
    name = {"br": "Brotli", "zstd": "Zstandard"}.get(coding, coding[:40])
    raise DamagedError(f"in the content encoding {name}, which is not undone: have the crawler ask for gzip")
