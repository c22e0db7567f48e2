"""Mails (RFC 5322 and MIME): what a person wrote, as plain text, with the subject as title.

Addresses are personal and stay out of the text and of the metadata. Quoted text, signatures and disclaimers are left as
they are: modifiers of mails mark them later.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import Message
from email.utils import parsedate_to_datetime

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import Decoded, decode, decode_html
from lmworks.corpus.extract.html_to_markdown import html_to_markdown

EXTRACTOR = "mail"
EXTRACTOR_VERSION = "2"

_MAX_HEADER = 20_000  # characters
_MAX_PART_HEADER = 4_000  # bytes; the parser of parameters takes quadratic time, once for each part
_MAX_WORK = 50_000_000  # lines times borders of parts: a line may be that of any part which is open
_MAX_TITLE = 1_000
_HEADERS = ("from", "subject", "date", "message-id", "received", "to")  # one of them at least makes a mail
_PLAIN = ("text/plain", "text/markdown", "text/x-diff", "text/x-patch")
_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted")
# The headers of parts are parsed while the mail is, so their length has to be looked at before.
_PART_HEADER = re.compile(rb"\n(?i:content-)[A-Za-z-]{1,40}[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*")
_BORDER = re.compile(rb"(?i)boundary[*\d]{0,9}\s{0,99}=")
# What the standard parser raises for headers and bodies that are none; RecursionError is a RuntimeError.
_PARSE_ERRORS = (
    MessageError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def extract_mail(raw: bytes) -> Extracted:
    """The text of a mail; of alternatives the plain one, where it is not empty. Forwarded mails follow under a line.

    `metadata`: `date` (ISO 8601), `attachments` (their number), `encoding`, and `encoding_declared` if that of the
    first text was declared wrongly.
    Raises UnusableError for what is no mail, and for a mail that is encrypted or without text.
    """
    if any(len(header[0]) > _MAX_PART_HEADER for header in _PART_HEADER.finditer(b"\n" + raw)):
        raise UnusableError(f"a header of more than {_MAX_PART_HEADER:,} bytes")
    if (raw.count(b"\n") + raw.count(b"\r")) * len(_BORDER.findall(raw)) > _MAX_WORK:
        raise UnusableError("too many parts for so many lines")
    counts = Counter[str]()
    try:
        # Not `policy.default`, which parses the headers of a part with a grammar, again at each look.
        message = message_from_bytes(raw, policy=policy.compat32)
        if not any(name.lower() in _HEADERS for name, _ in message.raw_items()):
            raise UnusableError("no mail: none of its headers")
        texts = list(_texts(message, counts))
    except UnusableError:
        raise
    except _PARSE_ERRORS as error:
        raise UnusableError(f"a mail that cannot be parsed: {type(error).__name__}") from error
    if not texts:
        raise UnusableError("an encrypted mail" if counts["encrypted"] else "a mail without text")
    encoding = next((text.metadata for text in texts if text.encoding), {})
    metadata = {**_date(message), **encoding, "attachments": str(counts["attachments"])}
    text = "\n\n".join(text.text for text in texts)
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, _subject(message), metadata)


# ---------------------------------------------------------------------------------------------------------------------
# Headers


def _raw_header(message: Message, name: str) -> str:
    """The header as it stands, of several the first; 8-bit bytes, which should not be there, decoded by a guess."""
    value = next((str(value) for key, value in message.raw_items() if key.lower() == name), "")[:_MAX_HEADER]
    try:
        # The parser has kept such bytes as surrogates.
        return decode(value.encode("utf-8", "surrogateescape")).text
    except (UnusableError, UnicodeEncodeError):
        return value.encode("ascii", "ignore").decode("ascii")


def _subject(message: Message) -> str:
    """The subject with its encoded words (RFC 2047) decoded."""
    value = " ".join(_raw_header(message, "subject").split())
    if "=?" in value:
        with suppress(*_PARSE_ERRORS):
            value = str(policy.default.header_factory("subject", value))
    return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())[:_MAX_TITLE]


def _date(message: Message) -> dict[str, str]:
    with suppress(*_PARSE_ERRORS):
        return {"date": parsedate_to_datetime(_raw_header(message, "date")).isoformat()}
    return {}


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def _texts(part: Message, counts: Counter[str]) -> Iterator[Decoded]:
    """The texts of a part and of the parts inside, in order."""
    kind = part.get_content_type().split()[0]  # `text/plain charset=utf-8` happens
    payload = part.get_payload()
    children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
    if kind in _ENCRYPTED:
        counts["encrypted"] += 1
    elif kind == "multipart/alternative" and children:
        # The first plain one with anything in it, else the last other one that has (RFC 2046, section 5.1.4).
        plain = [child for child in children if child.get_content_type() == "text/plain"]
        others = [child for child in reversed(children) if child.get_content_type() != "text/plain"]
        yield from next(filter(None, (list(_texts(child, counts)) for child in (*plain, *others))), ())
    elif part.is_multipart():
        for child in children:
            texts = list(_texts(child, counts))
            if texts and kind == "message/rfc822":
                yield Decoded(f"Forwarded message: {_subject(child)}".rstrip(": "), "")
            yield from texts
    else:
        is_text = kind in (*_PLAIN, "text/html") or kind.startswith("multipart/")  # one without a border
        text = _text(part, kind) if is_text and part.get_content_disposition() != "attachment" else None
        counts["attachments"] += text is None
        if text is not None and text.text:
            yield text


def _text(part: Message, kind: str) -> Decoded | None:
    """The text of one part, with its transfer encoding (quoted-printable, base64) undone; None for binary data."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return None
    try:
        decoded = (decode_html if kind == "text/html" else decode)(payload, part.get_content_charset())
        text = html_to_markdown(decoded.text) if kind == "text/html" else decoded.text
    except UnusableError:
        return None
    if kind != "text/html" and str(part.get_param("format", "")).lower() == "flowed":
        text = join_flowed(text, str(part.get_param("delsp", "")).lower() == "yes")
    return Decoded(text.strip("\n").rstrip(), decoded.encoding, decoded.false_declaration)


def join_flowed(text: str, delete_space: bool = False) -> str:
    """The paragraphs of a text in `format=flowed` (RFC 3676): a line that ends with a space continues in the next one.

    `delete_space` is the parameter DelSp: the space is no part of the text, for languages that write none. Lines of a
    quotation begin with one `>` for each level and a space.
    """
    lines: list[tuple[int, list[str]]] = []  # the level of a quotation, and the pieces of a paragraph in it
    is_open = False
    for line in text.split("\n"):
        content = line.lstrip(">")
        level = len(line) - len(content)
        content = content.removeprefix(" ")  # the space of "space-stuffing" (section 4.4)
        signature = content == "-- "  # which is never flowed (section 4.3)
        if not is_open or signature or level != lines[-1][0]:
            lines.append((level, []))
        is_open = content.endswith(" ") and not signature
        lines[-1][1].append(content[:-1] if is_open and delete_space else content)
    joined = ((level, "".join(pieces)) for level, pieces in lines)
    return "\n".join(f"{'>' * level} {line}".rstrip(" ") if level else line for level, line in joined)
