"""Mails (RFC 5322 and MIME): what a person wrote, as plain text, with the subject as title.

Addresses are personal and stay out of the text and of the metadata, but for their domains. Quoted text, signatures and
disclaimers are left as they are: repair of mails marks them later.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import Message
from email.utils import parsedate_to_datetime

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html, decode_text
from lmworks.corpus.extract.html_to_markdown import xhtml_to_markdown

EXTRACTOR = "mail"
EXTRACTOR_VERSION = "2"

_MAX_HEADER = 20_000  # characters
_MAX_PART_HEADER = 4_000  # bytes; the parser of parameters takes quadratic time, once for each part
_MAX_WORK = 50_000_000  # lines times multipart mails within each other, since a line may be the border of any of them
_MAX_FORWARDED = 10  # mails in mails in mails
_MAX_PARTS = 2_000
_MAX_TITLE = 1_000
_HEADERS = ("from", "subject", "date", "message-id", "received", "to")  # one of them at least makes a mail
_PLAIN = ("text/plain", "text/markdown", "text/x-diff", "text/x-patch")
_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted")
# The headers of parts are parsed while the mail is, so their length has to be looked at before.
_PART_HEADER = re.compile(rb"\n(?i:content-)[A-Za-z-]{1,40}[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*")
# A border (RFC 2046, section 5.1.1) as a header declares it, and as it stands between parts.
_BORDER = re.compile(rb"(?i:boundary)[*\d]{0,9}\s{0,99}=\s{0,99}\"?([^\"\r\n;]{1,200})|^--([^\r\n]{1,200})", re.M)
_DOMAIN = re.compile(r"@([A-Za-z0-9][A-Za-z0-9.-]{0,252})")
# What the standard parser raises for headers and bodies that are none.
_PARSE_ERRORS = (
    MessageError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,  # RecursionError among them
    TypeError,
    ValueError,
)


@dataclass(slots=True)
class _Found:
    """What the walk through the parts has met so far."""

    parts: int = 0
    attachments: int = 0
    encrypted: int = 0
    encoding: str = ""
    false_declaration: str = ""


def extract_mail(raw: bytes) -> Extracted:
    """The text of a mail; of alternatives the plain one, where it is not empty. Forwarded mails follow under a line.

    `metadata`: `date` (ISO 8601), `from_domain`, `to_domains` (To and Cc), `attachments` (their number), `encoding`,
    and `encoding_declared` if that of the first text was declared wrongly.
    Raises UnusableError for what is no mail, and for a mail that is encrypted or without text.
    """
    if any(len(header[0]) > _MAX_PART_HEADER for header in _PART_HEADER.finditer(b"\n" + raw)):
        raise UnusableError(f"a header of more than {_MAX_PART_HEADER:,} bytes")
    if (raw.count(b"\n") + raw.count(b"\r")) * _nesting(raw) > _MAX_WORK:
        raise UnusableError("parts within parts, too deep for so many lines")
    found = _Found()
    try:
        # Not `policy.default`, which parses the headers of a part with a grammar, anew at each look.
        message = message_from_bytes(raw, policy=policy.compat32)
        if not any(name.lower() in _HEADERS for name, _ in message.raw_items()):
            raise UnusableError("no mail: none of its headers")
        text = "\n\n".join(_texts(message, found, 0))
    except UnusableError:
        raise
    except _PARSE_ERRORS as error:
        raise UnusableError(f"a mail that cannot be parsed: {type(error).__name__}") from error
    if not text:
        raise UnusableError("an encrypted mail" if found.encrypted else "a mail without text")
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, _subject(message), _metadata(message, found))


# ---------------------------------------------------------------------------------------------------------------------
# Headers


def _raw_header(message: Message, name: str) -> str:
    """The header as it stands, of several the first; 8-bit bytes, which should not be there, decoded by a guess."""
    value = next((str(value) for key, value in message.raw_items() if key.lower() == name), "")[:_MAX_HEADER]
    try:
        value.encode("utf-8")
        return value
    except UnicodeEncodeError:  # the parser has kept such bytes as surrogates
        try:
            return decode_text(value.encode("utf-8", "surrogateescape")).text
        except (UnusableError, UnicodeEncodeError):
            return value.encode("ascii", "ignore").decode("ascii")


def _subject(message: Message) -> str:
    """The subject with its encoded words (RFC 2047) decoded."""
    value = " ".join(_raw_header(message, "subject").split())
    if "=?" in value:
        with suppress(*_PARSE_ERRORS):
            value = str(policy.default.header_factory("subject", value))
    return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())[:_MAX_TITLE]


def _metadata(message: Message, found: _Found) -> dict[str, str]:
    sender = _domains(_raw_header(message, "from"))
    receivers = {*_domains(_raw_header(message, "to")), *_domains(_raw_header(message, "cc"))}
    stated = {
        "date": _date(_raw_header(message, "date")),
        "from_domain": sender[-1] if sender else "",  # the last: before it a name may look like an address
        "to_domains": " ".join(sorted(receivers)),
        "encoding": found.encoding,
        "encoding_declared": found.false_declaration,
    }
    return {name: value for name, value in stated.items() if value} | {"attachments": str(found.attachments)}


def _domains(value: str) -> list[str]:
    return [match[1].rstrip(".-").lower() for match in _DOMAIN.finditer(value)]


def _date(value: str) -> str:
    try:
        return parsedate_to_datetime(value).isoformat()
    except _PARSE_ERRORS:
        return ""


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def _nesting(raw: bytes) -> int:
    """How many borders are open at once at most: one is from where it is declared until one further out is met."""
    open_borders: list[bytes] = []
    most = 0
    for found in _BORDER.finditer(raw):
        if found[1]:
            open_borders.append(found[1].strip())
            most = max(most, len(open_borders))
            continue
        for border in (found[2].rstrip(), found[2].rstrip().removesuffix(b"--")):
            if border in open_borders[-100:]:
                while open_borders[-1] != border:
                    open_borders.pop()
                break
    return most


def _texts(part: Message, found: _Found, forwarded: int) -> Iterator[str]:
    """The texts of a part and of the parts inside, in order."""
    found.parts += 1
    if found.parts > _MAX_PARTS:
        raise UnusableError(f"a mail of more than {_MAX_PARTS:,} parts")
    kind = part.get_content_type().split()[0]  # `text/plain charset=utf-8` happens
    if kind in _ENCRYPTED:
        found.encrypted += 1
    elif part.is_multipart():
        yield from _texts_of_several(part, kind, found, forwarded)
    elif part.get_content_disposition() == "attachment":
        found.attachments += 1
    elif kind in _PLAIN or kind == "text/html" or kind.startswith("multipart/"):  # one without a border: its text
        text = _text(part, kind, found)
        if text is None:
            found.attachments += 1
        elif text:
            yield text
    else:
        found.attachments += 1


def _texts_of_several(part: Message, kind: str, found: _Found, forwarded: int) -> Iterator[str]:
    payload = part.get_payload()
    children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
    if kind == "message/rfc822":
        yield from _forwarded(children, found, forwarded)
    elif kind == "multipart/alternative":
        yield from _best(children, found, forwarded)
    elif kind in ("multipart/related", "multipart/signed"):
        # The first is the text, the others are its pictures or its signature (RFC 2387, 1847).
        for child in children[:1]:
            yield from _texts(child, found, forwarded)
        found.attachments += len(children[1:])
    else:
        for child in children:
            yield from _texts(child, found, forwarded)


def _best(children: list[Message], found: _Found, forwarded: int) -> Iterator[str]:
    """The first plain alternative with anything in it, else the last other one that has (RFC 2046, section 5.1.4)."""
    plain = [child for child in children if child.get_content_type() == "text/plain"]
    others = [child for child in reversed(children) if child.get_content_type() != "text/plain"]
    for child in [*plain, *others]:
        if texts := list(_texts(child, found, forwarded)):
            yield from texts
            return


def _forwarded(children: list[Message], found: _Found, forwarded: int) -> Iterator[str]:
    if forwarded >= _MAX_FORWARDED:
        found.attachments += 1
        return
    for child in children:
        if texts := list(_texts(child, found, forwarded + 1)):
            yield f"Forwarded message: {_subject(child)}".rstrip(": ")
            yield from texts


def _text(part: Message, kind: str, found: _Found) -> str | None:
    """The text of one part, with its transfer encoding (quoted-printable, base64) undone; None for binary data."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return None
    charset = part.get_content_charset()
    try:
        decoded = (decode_html if kind == "text/html" else decode_text)(payload, charset)
        if kind == "text/html":
            text = xhtml_to_markdown(decoded.text)
        elif str(part.get_param("format", "")).lower() == "flowed":
            text = join_flowed(decoded.text, str(part.get_param("delsp", "")).lower() == "yes")
        else:
            text = decoded.text
    except UnusableError:
        return None
    text = text.strip("\n").rstrip()
    if text and not found.encoding:
        found.encoding, found.false_declaration = decoded.encoding, decoded.false_declaration
    return text


def join_flowed(text: str, delete_space: bool = False) -> str:
    """The paragraphs of a text in `format=flowed` (RFC 3676): a line that ends with a space goes on in the next one.

    `delete_space` is the parameter DelSp: the space is no part of the text, for languages that write none. Lines of a
    quotation begin with one `>` for each level and a space.
    """
    paragraphs: list[tuple[int, str]] = []
    pieces: list[str] = []  # of the paragraph that goes on
    open_level = 0
    for line in text.split("\n"):
        content = line.lstrip(">")
        level = len(line) - len(content)
        content = content.removeprefix(" ")  # the space of "space-stuffing" (section 4.4)
        signature = content == "-- "  # which is never flowed (section 4.3)
        if pieces and (level != open_level or signature):
            paragraphs.append((open_level, "".join(pieces)))
            pieces = []
        open_level = level
        flowed = content.endswith(" ") and not signature
        pieces.append(content[:-1] if flowed and delete_space else content)
        if not flowed:
            paragraphs.append((level, "".join(pieces)))
            pieces = []
    if pieces:
        paragraphs.append((open_level, "".join(pieces)))
    return "\n".join(f"{'>' * level} {line}".rstrip(" ") if level else line for level, line in paragraphs)
