"""Which encoding a text is in: what is declared is checked against the bytes, and what is not told is measured.

The order: a byte-order mark; UTF-8, which other text hardly ever is by chance; the declared encoding; and then, for old
files, the legacy encoding whose reading has the least mess and the most of a language, by charset-normalizer.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmworks.corpus.documents import UnusableError

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

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


# Python's names. Of an ISO set and the Windows set that extends it only the latter is asked for.
_LEGACY = (
    "big5", "big5hkscs", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258",
    "cp866", "cp874", "cp932", "cp949", "euc_jp", "gb18030", "iso8859_2", "koi8_r",
)  # fmt: skip
# The languages, as charset-normalizer names them, that the encodings of the Latin alphabet were made for.
_CENTRAL_EUROPEAN = frozenset(("Croatian", "Czech", "Hungarian", "Polish", "Romanian", "Slovak", "Slovene"))
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
# Those that were tried before the declared one.
_NOT_DECLARED = ("ascii", "iso2022", "utf")
_SAMPLE = 1 << 16  # bytes of the lines that are not ASCII, from which the encoding is measured
_BEFORE = 200  # bytes of ASCII before the first other one, in a line that is too long for the sample
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_HEAD = 1024  # where a declaration has to stand (HTML standard, section 13.2.3.2)
_DECLARATION = re.compile(
    rb"<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9._\-]{1,40})"
    rb"|<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9._\-]{1,40})",
    re.I,
)
_LAST_ALONE = re.compile(rb".*[\0-/]", re.S)  # no trail byte of any encoding is below 0x30
_HIGH = re.compile(rb"[\x80-\xff]")
_REST_OF_LINE = re.compile(rb"[^\r\n]*+[\r\n]?\n?")
_ISO_2022 = re.compile(rb"\x1b(?:\$[@AB]|\$\([CD]|\([IJ]|\$\)C)")
_CONTROL_BYTES = bytes(code for code in range(32) if code not in (9, 10, 12, 13, 27))  # text has none of these
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0e-\x1f]")
_STRAY = re.compile(r"[\udc80-\udcff]")
_ASCII = bytes(range(128))
_UTF8_PER_STRAY = 5  # characters of UTF-8 for each byte that is none, from which on the text is UTF-8 all the same
_TWO_LETTERS = re.compile(rb"[\xc0-\xff]{2}")
_NO_HEBREW = re.compile(rb"[\xc0-\xdf\xfb\xfc\xff]")


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


def decode_text(raw: bytes, declared: str | None = None) -> Decoded:
    """The characters of plain text. Each byte is accounted for: to encode the text again gives the bytes back.

    UTF-8 with a few stray bytes of Windows-1252 in it is read as that and called `utf-8+cp1252`.
    Raises UnusableError for binary data, and for bytes that no known encoding can hold.
    """
    text, name = _read(raw, declared)
    wrong = declared is not None and not _agree(declared, name)
    return Decoded(normalise_newlines(text), name, declared or "" if wrong else "")


def decode_html(raw: bytes, header: str | None = None) -> Decoded:
    """The characters of an HTML or XHTML page; `header` is the charset of its Content-Type, which counts first."""
    found = _DECLARATION.search(raw[:_HEAD])
    declared = header or ((found[1] or found[2]).decode("ascii") if found else None)
    return decode_text(raw, declared)


def _read(raw: bytes, declared: str | None) -> tuple[str, str]:
    if raw.startswith(_BYTE_ORDER_MARKS):
        return decode(raw)
    if b"\0" in raw:
        return _utf16(raw)
    if raw.isascii():
        return _seven_bits(raw, declared)
    if (text := _strict(raw, "utf-8")) is not None:
        return text, "utf-8"
    if len(raw) - len(raw.translate(None, _CONTROL_BYTES)) > 0.001 * len(raw):
        raise UnusableError("binary data")
    return _mended_utf8(raw) or _declared(raw, declared) or _legacy(raw) or decode(raw)


# ---------------------------------------------------------------------------------------------------------------------
# What is declared


def _agree(declared: str, name: str) -> bool:
    """Whether the bytes are what was declared: the same encoding, or its usual superset, or one of UTF-16's orders.

    Text of ASCII alone is no evidence against an encoding that extends it.
    """
    ours, theirs = text_codec(declared), text_codec(name)
    if ours is None or theirs is None:
        return False
    if theirs == "ascii":
        return not ours.startswith(("utf-16", "utf-32", "utf-7", "iso2022", "hz"))
    ours = ours.removesuffix("-sig")
    return theirs in (ours, _SUPERSETS.get(ours)) or (ours.startswith("utf-16") and theirs.startswith("utf-16"))


def _declared(raw: bytes, declared: str | None) -> tuple[str, str] | None:
    codec = text_codec(declared) if declared else None
    if codec is None or codec.startswith(_NOT_DECLARED):
        return None
    for candidate in filter(None, (_SUPERSETS.get(codec), codec)):
        if _strict(b"<meta>", candidate) == "<meta>" and (text := _round_trip(raw, candidate)) is not None:
            return text, candidate
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Unicode and seven bits


def _seven_bits(raw: bytes, declared: str | None) -> tuple[str, str]:
    """ASCII, unless it shifts to other character sets by escape sequences (ISO 2022), as Japanese mail does."""
    if _ISO_2022.search(raw):
        for codec in (text_codec(declared or ""), "iso2022_jp_2", "iso2022_jp_ext", "iso2022_kr"):
            if codec is not None and codec.startswith("iso2022") and (text := _strict(raw, codec)) is not None:
                return text, codec
    return raw.decode("ascii"), "ascii"


def _mended_utf8(raw: bytes) -> tuple[str, str] | None:
    """UTF-8 with a few bytes of Windows-1252, as in texts that were pasted together: each is read as what it is."""
    text = raw.decode("utf-8", "surrogateescape")
    good = len(raw.decode("utf-8", "ignore"))
    ascii_ones = len(raw) - len(raw.translate(None, _ASCII))
    if good - ascii_ones < _UTF8_PER_STRAY * (len(text) - good):
        return None
    try:
        return _STRAY.sub(lambda match: bytes([ord(match[0]) - 0xDC00]).decode("cp1252"), text), "utf-8+cp1252"
    except UnicodeDecodeError:
        return None


def _utf16(raw: bytes) -> tuple[str, str]:
    """UTF-16 without a mark: of each two bytes one is zero in a third of the cases, and the other never."""
    for codec, high, low in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        if high.count(0) * 3 > len(high) and low.count(0) == 0:
            text = _strict(raw, codec)
            if text is not None and not _CONTROLS.search(text):
                return text, codec
    raise UnusableError("binary data")


# ---------------------------------------------------------------------------------------------------------------------
# Legacy encodings


def _legacy(raw: bytes) -> tuple[str, str] | None:
    """The most plausible legacy encoding that decodes all of the bytes and gives them back."""
    from charset_normalizer import from_bytes

    sample = _sample(raw)
    matches = from_bytes(
        sample, cp_isolation=list(_LEGACY), preemptive_behaviour=False, enable_fallback=False, chunk_size=2048
    )
    for codec in _ranked(list(matches), sample):
        if (text := _round_trip(raw, codec)) is not None:
            return text, codecs.lookup(codec).name
    return None


def _ranked(matches: Sequence["CharsetMatch"], sample: bytes) -> list[str]:
    """The names of the encodings, best first, after what the measure cannot know."""
    names = [_name(match) for match in matches]
    if not names:
        return []
    best = matches[0]
    if best.coherence == 0 and best.multi_byte_usage == 0 and not _TWO_LETTERS.search(sample):
        # No language was seen, because only a few quotation marks or accents are beyond ASCII: then the usual ones.
        return ["cp1252", *names]
    if "cp1255" in names and names[0] in ("cp1251", "koi8_r") and not _NO_HEBREW.search(sample):
        # Hebrew without vowel points is 27 letters with codes in a row, which in Cyrillic would be all of one case,
        # and never the last letters of its alphabet.
        return ["cp1255", *names]
    if names[0] in _WRITTEN_IN:
        # The Latin sets differ in few letters, so their measures are close: the language then tells which one it is.
        close = [
            name
            for name, match in zip(names, matches, strict=True)
            if match.chaos - best.chaos < 0.02
            and best.coherence - match.coherence < 0.1
            and match.language in _WRITTEN_IN.get(name, ())
        ]
        return [*close, *names]
    return names


def _name(match: "CharsetMatch") -> str:
    """Encodings that give the same characters are one match: the one of its language, else the Western one."""
    same = match.could_be_from_charset
    fitting = (name for name in same if match.language in _WRITTEN_IN.get(name, ()))
    return next(fitting, "cp1252" if "cp1252" in same else match.encoding)


def _sample(raw: bytes) -> bytes:
    """Lines that are not ASCII, which alone tell encodings apart; cut behind a byte that is a part of no character of
    several bytes, where there is one."""
    if len(raw) <= _SAMPLE:
        return raw
    taken: list[bytes] = []
    room, position = _SAMPLE, 0
    while room >= _SAMPLE // 2 and (found := _HIGH.search(raw, position)):
        newline, carriage_return = (raw.rfind(end, position, found.start()) + 1 for end in (b"\n", b"\r"))
        start = max(position, newline, carriage_return)
        rest = _REST_OF_LINE.match(raw, found.start())
        position = rest.end() if rest else len(raw)
        line = raw[start:position]
        if len(line) > room:
            line = raw[max(start, found.start() - _BEFORE) : position]
            alone = _LAST_ALONE.match(line, 0, room)
            line = line[: alone.end()] if alone else b"" if taken else line[:room]
        taken.append(line)
        room -= len(line)
    return b"".join(taken)


def _round_trip(raw: bytes, codec: str) -> str | None:
    text = _strict(raw, codec)
    if text is None:
        return None
    try:
        again = text.encode(codec)
    except UnicodeEncodeError:
        return None
    # Some characters of Japanese vendors have two codes in cp932, both of two bytes.
    return text if again == raw or (codec == "cp932" and len(again) == len(raw)) else None


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except (LookupError, ValueError):  # UnicodeDecodeError among them
        return None
