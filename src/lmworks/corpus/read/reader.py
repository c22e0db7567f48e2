"""From the bytes of a file to a document: what an extractor is, and how bytes become characters."""

import codecs
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmworks.records import Document, RejectedRecord


class UnusableError(ValueError):
    """A source from which no document can be made; the message is the reason that `RejectedRecord` shows."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of one source. `extractor` and its version say how it was made, so that a parser can be chosen by it."""

    text: str
    extractor: str
    extractor_version: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


Extractor = Callable[[bytes], Extracted]  # raises UnusableError


def read_file(
    path: Path, uri: str, media_type: str, extractor: Extractor, max_bytes: int, licence: str | None = None
) -> Document | RejectedRecord:
    """The document of one file, or why there is none; a file that cannot be read raises nothing."""
    try:
        if (size := path.stat().st_size) > max_bytes:
            return RejectedRecord(uri, f"larger than max_bytes = {max_bytes:,} bytes ({size:,})")
        raw = path.read_bytes()
        extracted = extractor(raw)
    except OSError as error:
        return RejectedRecord(uri, f"unreadable: {error.strerror or error}")
    except UnusableError as error:
        return RejectedRecord(uri, str(error))
    return Document(
        text=extracted.text,
        uri=uri,
        media_type=media_type,
        extractor=extracted.extractor,
        extractor_version=extracted.extractor_version,
        source_hash=hashlib.sha256(raw).hexdigest(),
        title=extracted.title,
        licence=licence,
        metadata=extracted.metadata,
    )


_NOT_OF_TEXTS = ("idna", "mbcs", "oem", "punycode", "raw-unicode", "undefined", "unicode", "utf-7")
_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16"),
)


def decode(raw: bytes, declared: str | None = None) -> tuple[str, str]:
    """The characters of a file, with newlines as `\\n`, and the name of the encoding they were in.

    A byte-order mark decides; else the `declared` encoding (of an HTML page); else UTF-8; else Windows-1252, the usual
    encoding of old Western files. Raises UnusableError for binary data and for bytes that none of these can hold.
    """
    for mark, codec, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return normalise_newlines(_strict(raw, codec)), name
    if b"\0" in raw:
        raise UnusableError("binary data")
    codec = text_codec(declared) if declared else None
    for candidate in filter(None, (codec, "utf-8")):
        if candidate.startswith(("utf-16", "utf-32")):  # of which no text is without zero bytes
            continue
        try:
            return normalise_newlines(raw.decode(candidate)), candidate
        except (LookupError, ValueError):  # UnicodeError among them
            continue
    if _is_binary(raw):
        raise UnusableError("binary data")
    return normalise_newlines(_strict(raw, "cp1252")), "cp1252"


def begins_as_text(head: bytes) -> bool:
    """Whether `decode` would take a file that begins so for a text; the last character may be cut."""
    if any(head.startswith(mark) for mark, _, _ in _BYTE_ORDER_MARKS):
        return True
    if b"\0" in head or _is_binary(head):
        return False
    for codec in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(codec)().decode(head)
            return True
        except UnicodeDecodeError:
            continue
    return False


def text_codec(name: str) -> str | None:
    """Python's name of an encoding of texts; None for a name that it does not know, or of something else.

    That is `zlib` and the like, names of hosts (`idna`, `punycode`, in quadratic time), and what may give halves of
    surrogate pairs, which no file of ours could hold: UTF-7 and escapes in source code.
    """
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a null character in it
        return None
    is_of_texts = getattr(info, "_is_text_encoding", True) and not info.name.startswith(_NOT_OF_TEXTS)
    return info.name if is_of_texts else None


def well_formed(text: str) -> str:
    """Text with halves of surrogate pairs replaced by U+FFFD: no file of UTF-8 holds them. Else the text itself."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def normalise_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _strict(raw: bytes, codec: str) -> str:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        raise UnusableError(f"not decodable as {codec} (byte {error.start})") from error


def _is_binary(raw: bytes) -> bool:
    """Control characters other than tab, newline, form feed and return do not occur in text."""
    controls = sum(raw.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13))
    return controls > 0.001 * len(raw)
