"""From bytes to characters: which encoding a text is in, and what of it no file of ours could hold.

The order: a byte-order mark; UTF-8, which other text hardly ever is by chance; the declared encoding; and then, for old
files, what charset-normalizer finds most likely.
"""

import codecs
import datetime
import re
from contextlib import suppress
from dataclasses import dataclass

from lmworks.corpus.documents import UnusableError

# Python's names. Of an ISO set and the Windows set that extends it only the latter is asked for.
_LEGACY = (
    "big5 big5hkscs cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874 cp932 cp949 euc_jp "
    "gb18030 iso8859_2 koi8_r"
).split()
# The languages, as charset-normalizer names them, that the encodings of the Latin alphabet were made for: these sets
# differ in few letters, so that the language has to tell which one a text is in.
_CENTRAL_EUROPEAN = "Croatian Czech Hungarian Polish Romanian Slovak Slovene".split()
_WRITTEN_IN = {
    "cp1250": _CENTRAL_EUROPEAN, "iso8859_2": _CENTRAL_EUROPEAN, "cp1254": ["Turkish"], "cp1258": ["Vietnamese"],
    "cp1257": ["Estonian", "Lithuanian"],
    "cp1252": "Danish Dutch English Finnish French German Indonesian Italian Norwegian Portuguese Spanish "
    "Swedish".split(),
}  # fmt: skip
# What a declared name means in practice: the superset that browsers read it as (WHATWG Encoding, section 4.2).
_SUPERSETS = {
    "ascii": "cp1252", "big5": "big5hkscs", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030",
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "shift_jis": "cp932", "tis-620": "cp874",
}  # fmt: skip
_NOT_OF_TEXTS = ("idna", "mbcs", "oem", "punycode", "raw-unicode", "undefined", "unicode", "utf-7")
_BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_HEAD = 1024  # where a declaration has to stand (HTML standard, section 13.2.3.2)
_DECLARATION = re.compile(
    rb"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9._\-]{1,40})"
    rb"|<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9._\-]{1,40})",
    re.I,
)
_CONTROLS = bytes(code for code in range(32) if code not in (9, 10, 12, 13, 27))  # text has none of these
_SAMPLE = 1 << 16
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STRAY = re.compile("[\udc80-\udcff]")
_UTF8_PER_STRAY = 5  # characters of UTF-8 for each byte that is none, from which on the text is UTF-8 all the same
_TWO_LETTERS = re.compile(rb"[\xc0-\xff]{2}")
_DATE = re.compile(r"\s*(?:D:)?([0-9]{4})(?:-?([0-9]{2})(?:-?([0-9]{2}))?)?")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The characters, newlines as `\\n`; the encoding they were in; and the declared one where that is not true."""

    text: str
    encoding: str
    false_declaration: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """`encoding`, and `encoding_declared` when another one was declared than the bytes are in."""
        declared = {"encoding_declared": self.false_declaration} if self.false_declaration else {}
        return {"encoding": self.encoding, **declared}


def decode(raw: bytes, declared: str | None = None) -> Decoded:
    """The characters of a text, of which none is left out or made up: all bytes are valid in the encoding.

    UTF-8 with a few stray bytes of Windows-1252 in it is read as that and called `utf-8+cp1252`.
    Raises UnusableError for binary data, which UTF-16 without a byte-order mark is too.
    """
    text, name = _read(raw, declared)
    is_true = declared is None or any(
        codec == name or (_strict(raw, codec) or "").removeprefix("\ufeff") == text for codec in _meant(declared)
    )
    return Decoded(normalise_newlines(text), name, "" if is_true else declared or "")


def decode_html(raw: bytes, header: str | None = None) -> Decoded:
    """The characters of an HTML or XHTML page; `header` is the charset of its Content-Type, which counts first."""
    found = _DECLARATION.search(raw[:_HEAD])
    return decode(raw, header or ((found[1] or found[2]).decode("ascii") if found else None))


def begins_as_text(head: bytes) -> bool:
    """Whether a file that begins so may be a text."""
    return head.startswith(tuple(_BYTE_ORDER_MARKS)) or not (b"\0" in head or _is_binary(head))


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
    try:
        if not text.isascii():  # which is much faster to see
            text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def printable(name: str) -> str:
    """Control characters and bytes that are no UTF-8 as escapes; no file of ours could hold the latter."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def normalise_newlines(text: str) -> str:
    """Text whose lines end with `\\n` alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def iso_date(stated: str) -> str:
    """The date at the beginning, as "2024-01-31", "2024-01" or "2024"; empty when there is none that exists.

    It takes the forms of ISO 8601 (XML, EPUB) and of PDF, `D:20240131` (ISO 32000-1, section 7.9.4), without the time.
    """
    found = _DATE.match(stated)
    parts = [part for part in found.groups() if part] if found else ["0"]
    try:
        datetime.date(*map(int, [*parts, "1", "1"][:3]))
    except ValueError:
        return ""
    return "-".join(parts)


def _read(raw: bytes, declared: str | None) -> tuple[str, str]:
    for mark, codec in _BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            if (text := _strict(raw, codec)) is None:
                raise UnusableError(f"not decodable as {codec}")
            return text, codec.removesuffix("-sig")
    if b"\0" in raw:
        raise UnusableError("binary data")
    meant = (codec for codec in _meant(declared) if _strict(raw, codec) is not None)
    if raw.isascii():  # which may be Japanese mail all the same, that shifts by escape sequences (ISO 2022)
        codec = next((each for each in meant if each.startswith("iso2022") and b"\x1b" in raw), "ascii")
        return raw.decode(codec), codec
    if (text := _strict(raw, "utf-8")) is not None:
        return text, "utf-8"
    if _is_binary(raw):
        raise UnusableError("binary data")
    if (text := _mended_utf8(raw)) is not None:
        return text, "utf-8+cp1252"
    codec = next((each for each in meant if _strict(b"<meta>", each) == "<meta>"), "")
    return (raw.decode(codec), codec) if codec else _guessed(raw)


def _meant(declared: str | None) -> tuple[str, ...]:
    """The encodings that a declared name stands for, in practice and by itself."""
    codec = text_codec(declared or "") or ""
    return tuple(filter(None, (_SUPERSETS.get(codec), codec)))


def _mended_utf8(raw: bytes) -> str | None:
    """UTF-8 with a few bytes of Windows-1252, as in texts that were pasted together: each is read as what it is."""
    text = raw.decode("utf-8", "surrogateescape")
    stray = len(_STRAY.findall(text))
    if len(text) - len(text.encode("ascii", "ignore")) - stray < _UTF8_PER_STRAY * stray:
        return None
    with suppress(UnicodeDecodeError):
        return _STRAY.sub(lambda match: bytes([ord(match[0]) - 0xDC00]).decode("cp1252"), text)
    return None


def _is_binary(raw: bytes) -> bool:
    return len(raw) - len(raw.translate(None, _CONTROLS)) > 0.001 * len(raw)


def _guessed(raw: bytes) -> tuple[str, str]:
    """The most plausible legacy encoding in which all bytes are valid, else Windows-1252."""
    from charset_normalizer import from_bytes

    sample = raw
    if len(raw) > _SAMPLE:  # only some places of it are measured: those have to be such that are not ASCII
        sample = b"".join(line for line in raw.splitlines(keepends=True) if not line.isascii())
    matches = list(
        from_bytes(
            sample, cp_isolation=list(_LEGACY), preemptive_behaviour=False, enable_fallback=False, chunk_size=2048
        )
    )
    of_its_language = [
        name
        for match in matches
        if match.chaos - matches[0].chaos < 0.02 and matches[0].coherence - match.coherence < 0.1
        for name in match.could_be_from_charset
        if match.language in _WRITTEN_IN.get(name, ())
    ]
    if matches and matches[0].coherence == matches[0].multi_byte_usage == 0 and not _TWO_LETTERS.search(sample):
        of_its_language = ["cp1252"]  # none was seen: only a few quotation marks or accents are beyond ASCII
    for codec in (*of_its_language, *(match.encoding for match in matches), "cp1252"):
        if (text := _strict(raw, codec)) is not None:
            return text, codecs.lookup(codec).name
    raise UnusableError("not decodable in any encoding that texts are in")


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except (LookupError, ValueError):  # UnicodeDecodeError among them
        return None
