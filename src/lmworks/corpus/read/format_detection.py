"""Formats of files, by their names and first bytes.

The suffix says what the author meant; bytes that only another format begins with say what it is, so that a `.txt` that
is a zip file is read as one, and an `.html` that is a PDF goes to the extractor of PDF. A name without a suffix, such
as LICENSE, says nothing: there a text is a text, and a program is known by its first line.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from lmworks.corpus.extract.charset import begins_as_text
from lmworks.corpus.sources.source_code import script_type, source_code_type

Compression = Literal["gzip", "bzip2", "xz", "zstd"]
Kind = Literal["zip", "tar", "warc", "jsonl", "csv", "tsv", "parquet", "mediawiki", "mbox", Compression]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)

MEDIA_TYPES = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".eml": "message/rfc822",
    ".epub": "application/epub+zip",
    ".htm": "text/html",
    ".html": "text/html",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".py": "text/x-python",
    ".rst": "text/x-rst",
    ".txt": "text/plain",
    ".xhtml": "application/xhtml+xml",
}

# Of files that a source tree has next to its code, whatever stands behind a dot in them.
_NAMES_OF_TEXTS = frozenset(
    {"authors", "changelog", "changes", "contributing", "contributors", "copying", "copyright", "credits", "history"}
    | {"install", "licence", "license", "maintainers", "news", "notice", "patents", "readme", "thanks", "todo"}
    | {"unlicense"}
)

# Zip files that are documents, not archives of documents. No extractor reads those that are in no other table.
_ZIP_DOCUMENTS = {
    ".docx": MEDIA_TYPES[".docx"],
    ".epub": MEDIA_TYPES[".epub"],
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

# What opens a file, by its suffix.
_KINDS: dict[str, Kind] = {
    ".bz2": "bzip2", ".csv": "csv", ".gz": "gzip", ".jsonl": "jsonl", ".mbox": "mbox", ".ndjson": "jsonl",
    ".parquet": "parquet", ".tab": "tsv", ".tar": "tar", ".tbz": "bzip2", ".tbz2": "bzip2", ".tgz": "gzip",
    ".tsv": "tsv", ".txz": "xz", ".tzst": "zstd", ".warc": "warc", ".xz": "xz", ".zip": "zip", ".zst": "zstd",
}  # fmt: skip
_BEHIND_COMPRESSION = {".tbz": ".tar", ".tbz2": ".tar", ".tgz": ".tar", ".txz": ".tar", ".tzst": ".tar"}


@dataclass(frozen=True, slots=True)
class Format:
    """`container` says which reader opens it; None for what is one record itself, of `media_type` if that is known."""

    container: Kind | None
    media_type: str | None


def detect(name: str, head: bytes) -> Format:
    """`name` is a path or a file name; `head` the first 4 KiB of the content, or all of it."""
    suffix = PurePosixPath(name.lower()).suffix
    by_content = _by_content(head)
    if by_content is None:
        return _by_name(name, suffix) or _by_markup(head) or Format(None, _without_suffix(name, head))
    if by_content.container == "zip" and (document := _ZIP_DOCUMENTS.get(suffix)):
        return Format(None, document)
    return by_content


def media_type_of(declared: str | None, head: bytes) -> str | None:
    """The media type of a record whose container declares one, which the first bytes may contradict."""
    by_content = _by_content(head)
    if by_content is None:
        markup = _by_markup(head)
        return declared or (markup.media_type if markup else None)
    if by_content.container == "zip" and declared in _ZIP_DOCUMENTS.values():
        return declared
    return by_content.media_type


def name_behind_compression(name: str) -> str:
    """The name of the content of a compressed file: `a.txt.gz` holds `a.txt`, `a.tgz` holds `a.tar`."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if _KINDS.get(suffix) not in COMPRESSIONS:
        return name
    return name[: -len(suffix)] + _BEHIND_COMPRESSION.get(suffix, "")


# The line that begins a message in an mbox file: an address, then a date as `asctime` gives it, or close to it.
FROM_LINE = (
    rb"From [^\r\n]{1,200}?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?:\w{3} +\d{1,2}|\d{1,2} +\w{3}) [^\r\n]{4,40}\r?\n"
)
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,200}(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE)
# RFC 1952 (gzip), RFC 8878 (Zstandard), the formats of bzip2 and xz, and the others.
_BEGINNINGS: tuple[tuple[Kind, re.Pattern[bytes]], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")),
    ("bzip2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")),  # then a block, or the end of an empty stream
    ("xz", re.compile(rb"\xfd7zXZ\x00")),
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),  # a frame, or one that is to be skipped
    ("warc", re.compile(rb"WARC/1\.")),
    ("parquet", re.compile(rb"PAR1")),
    ("tar", re.compile(rb".{257}ustar", re.DOTALL)),
    ("mediawiki", re.compile(rb"(?:\xef\xbb\xbf)?\s{0,200}(?:<\?xml[^>]{0,200}>\s{0,200})?<mediawiki[\s>]")),
    ("mbox", re.compile(FROM_LINE + rb"[!-9;-~]{1,80}:")),
)
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"\xef\xbb\xbf%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),  # .doc, .xls, .ppt before 2007
    (0, b"{\\rtf", "application/rtf"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\x7fELF", "application/x-executable"),
)


def _by_content(head: bytes) -> Format | None:
    for kind, begins in _BEGINNINGS:
        if begins.match(head):
            return Format(kind, f"application/x-{kind}")
    if head.startswith((b"PK\3\4", b"PK\5\6", b"PK\7\x08PK")):
        document = _zip_document(head)
        return Format(None, document) if document else Format("zip", "application/x-zip")
    for offset, magic, media_type in _MAGIC:
        if head.startswith(magic, offset):
            return Format(None, media_type)
    return None


def _zip_document(head: bytes) -> str | None:
    """An EPUB says so in its first member, which is not compressed (OCF 3.3, section 4.3); Word writes the list of
    types first and its folder soon after."""
    if head.startswith(b"mimetypeapplication/epub+zip", 30):
        return _ZIP_DOCUMENTS[".epub"]
    if head.startswith(b"[Content_Types].xml", 30) and b"word/" in head:
        return _ZIP_DOCUMENTS[".docx"]
    return None


def _by_name(name: str, suffix: str) -> Format | None:
    if kind := _KINDS.get(suffix):
        return Format(kind, f"application/x-{kind}")
    media_type = MEDIA_TYPES.get(suffix) or _ZIP_DOCUMENTS.get(suffix) or source_code_type(PurePosixPath(name))
    return Format(None, media_type) if media_type else None


def _by_markup(head: bytes) -> Format | None:
    return Format(None, "text/html") if _MARKUP.match(head) else None


def _without_suffix(name: str, head: bytes) -> str | None:
    """The media type of a text whose name has no suffix, or one that is none, as in README.de; None for others."""
    path = PurePosixPath(name)
    is_hidden = any(part.startswith(".") for part in path.parts)  # in an archive; of a folder none come
    is_named_so = not path.suffix or path.name.lower().partition(".")[0] in _NAMES_OF_TEXTS
    if not path.name or is_hidden or not is_named_so or not begins_as_text(head):
        return None
    return script_type(head) or "text/plain"
