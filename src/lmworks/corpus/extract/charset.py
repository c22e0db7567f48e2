"""From bytes to characters: which encoding a text is in, and what of it no file of ours could hold.

The order: a byte-order mark; UTF-8, which other text hardly ever is by chance; the declared encoding; and then, for old
files, the legacy encoding whose reading has the least mess and the most of a language, by charset-normalizer.
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
# The languages, as charset-normalizer names them, that the encodings of the Latin alphabet were made for.
_CENTRAL_EUROPEAN = frozenset("Croatian Czech Hungarian Polish Romanian Slovak Slovene".split())
_WRITTEN_IN = {
    "cp1250": _CENTRAL_EUROPEAN,
    "cp1252": frozenset(
        "Danish Dutch English Finnish French German Indonesian Italian Norwegian Portuguese Spanish Swedish".split()
    ),
    "cp1254": frozenset(("Turkish",)),
    "cp1257": frozenset(("Estonian", "Lithuanian")),
    "cp1258": frozenset(("Vietnamese",)),
    "iso8859_2": _CENTRAL_EUROPEAN,
}
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
_ISO_2022 = re.compile(rb"\x1b(?:\$[@AB]|\$\([CD]|\([IJ]|\$\)C)")
_CONTROLS = bytes(code for code in range(32) if code not in (9, 10, 12, 13, 27))  # text has none of these
_CONTROL = re.compile(r"[\0-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_SAMPLE = 1 << 16
_STRAY = re.compile("[\udc80-\udcff]")
_UTF8_PER_STRAY = 5  # characters of UTF-8 for each byte that is none, from which on the text is UTF-8 all the same
_TWO_LETTERS = re.compile(rb"[\xc0-\xff]{2}")
_NO_HEBREW = re.compile(rb"[\xc0-\xdf\xfb\xfc\xff]")
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
    """The characters of a text. Each byte is accounted for: to encode the text again gives the bytes back.

    UTF-8 with a few stray bytes of Windows-1252 in it is read as that and called `utf-8+cp1252`.
    Raises UnusableError for binary data, and for bytes that no known encoding can hold.
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
    """Whether a file that begins so is a text: in UTF-8 or Windows-1252, of which the last character may be cut."""
    if head.startswith(tuple(_BYTE_ORDER_MARKS)):
        return True
    if b"\0" in head or _is_binary(head):
        return False
    for codec in ("utf-8", "cp1252"):
        with suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder(codec)().decode(head)
            return True
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
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def normalise_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def iso_date(stated: str) -> str:
    """The date at the beginning, as "2024-01-31", "2024-01" or "2024"; empty when there is none that exists.

    It takes the forms of ISO 8601 (XML, EPUB) and of PDF, `D:20240131` (ISO 32000-1, section 7.9.4), without the time.
    """
    found = _DATE.match(stated)
    if not found:
        return ""
    year, month, day = found.groups()
    try:
        datetime.date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return ""
    return "-".join(filter(None, (year, month, day)))


def _read(raw: bytes, declared: str | None) -> tuple[str, str]:
    for mark, codec in _BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            if (text := _strict(raw, codec)) is None:
                raise UnusableError(f"not decodable as {codec}")
            return text, codec.removesuffix("-sig")
    if b"\0" in raw:
        return _utf16(raw)
    if raw.isascii():
        return _seven_bits(raw, declared)
    if (text := _strict(raw, "utf-8")) is not None:
        return text, "utf-8"
    if _is_binary(raw):
        raise UnusableError("binary data")
    if found := _mended_utf8(raw) or _declared(raw, declared) or _legacy(raw):
        return found
    raise UnusableError("not decodable in any encoding that texts are in")


def _meant(declared: str | None) -> tuple[str, ...]:
    """What a declared name means in practice, and by itself."""
    codec = text_codec(declared or "") or ""
    return tuple(filter(None, (_SUPERSETS.get(codec), codec)))


def _declared(raw: bytes, declared: str | None) -> tuple[str, str] | None:
    for codec in _meant(declared):
        if codec.startswith(("ascii", "iso2022", "utf")) or _strict(b"<meta>", codec) != "<meta>":
            continue  # which were tried before, or are no superset of ASCII
        if (text := _round_trip(raw, codec)) is not None:
            return text, codec
    return None


def _seven_bits(raw: bytes, declared: str | None) -> tuple[str, str]:
    """ASCII, unless it shifts to other character sets by escape sequences (ISO 2022), as Japanese mail does."""
    if _ISO_2022.search(raw):
        for codec in (*_meant(declared), "iso2022_jp_2", "iso2022_jp_ext", "iso2022_kr"):
            if codec.startswith("iso2022") and (text := _strict(raw, codec)) is not None:
                return text, codec
    return raw.decode("ascii"), "ascii"


def _mended_utf8(raw: bytes) -> tuple[str, str] | None:
    """UTF-8 with a few bytes of Windows-1252, as in texts that were pasted together: each is read as what it is."""
    text = raw.decode("utf-8", "surrogateescape")
    stray = len(_STRAY.findall(text))
    ascii_ones = len(text.encode("ascii", "ignore"))
    if len(text) - ascii_ones - stray < _UTF8_PER_STRAY * stray:
        return None
    try:
        return _STRAY.sub(lambda match: bytes([ord(match[0]) - 0xDC00]).decode("cp1252"), text), "utf-8+cp1252"
    except UnicodeDecodeError:
        return None


def _utf16(raw: bytes) -> tuple[str, str]:
    """UTF-16 without a mark: of each two bytes one is zero in a third of the cases, and the other never."""
    for codec, high, low in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        text = _strict(raw, codec) if high.count(0) * 3 > len(high) and low.count(0) == 0 else None
        if text is not None and not _CONTROL.search(text):
            return text, codec
    raise UnusableError("binary data")


def _is_binary(raw: bytes) -> bool:
    return len(raw) - len(raw.translate(None, _CONTROLS)) > 0.001 * len(raw)


def _legacy(raw: bytes) -> tuple[str, str] | None:
    """The most plausible legacy encoding that decodes all of the bytes and gives them back, else Windows-1252."""
    from charset_normalizer import from_bytes

    told = raw
    if len(raw) > _SAMPLE:  # only some places of it are measured: those have to be such that are not ASCII
        told = b"".join(line for line in raw.splitlines(keepends=True) if not line.isascii())
    matches = list(
        from_bytes(told, cp_isolation=list(_LEGACY), preemptive_behaviour=False, enable_fallback=False, chunk_size=2048)
    )
    # Encodings that give the same characters are one match.
    names = ["cp1252" if "cp1252" in match.could_be_from_charset else match.encoding for match in matches]
    first: list[str] = []
    if matches and matches[0].coherence == matches[0].multi_byte_usage == 0 and not _TWO_LETTERS.search(told):
        first = ["cp1252"]  # no language was seen: only a few quotation marks or accents are beyond ASCII
    elif "cp1255" in names and names[0] in ("cp1251", "koi8_r") and not _NO_HEBREW.search(told):
        # Hebrew without vowel points is 27 letters with codes in a row, which in Cyrillic would be all of one case,
        # and never the last letters of its alphabet.
        first = ["cp1255"]
    elif matches and not _WRITTEN_IN.keys().isdisjoint(matches[0].could_be_from_charset):
        # The Latin sets differ in few letters, so their measures are close: the language then tells which one it is.
        first = [
            name
            for match in matches
            if match.chaos - matches[0].chaos < 0.02 and matches[0].coherence - match.coherence < 0.1
            for name in match.could_be_from_charset
            if match.language in _WRITTEN_IN.get(name, ())
        ]
    for codec in (*first, *names, "cp1252"):
        if (text := _round_trip(raw, codec)) is not None:
            return text, codecs.lookup(codec).name
    return None


def _round_trip(raw: bytes, codec: str) -> str | None:
    """The text, where encoding it gives the bytes back."""
    text = _strict(raw, codec)
    try:
        again = b"" if text is None else text.encode(codec)
    except UnicodeEncodeError:
        return None
    # Some characters of Japanese vendors have two codes in cp932, both of two bytes.
    return text if again == raw or (codec == "cp932" and len(again) == len(raw)) else None


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except (LookupError, ValueError):  # UnicodeDecodeError among them
        return None
