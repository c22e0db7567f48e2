"""EPUB books: the documents of the spine as Markdown, in its order, with a form feed between each two.

Also the ZIP packages of XML parts that such books are; DOCX has them too. What one unpacks to is bounded by the memory
of the sandbox.
"""

import io
import posixpath
import struct
import zipfile
import zlib
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html, iso_date
from lmworks.corpus.extract.html_to_markdown import html_to_markdown

EXTRACTOR = "epub"
EXTRACTOR_VERSION = "2"
CHAPTER_BREAK = "\f"

_ENCRYPTION = "META-INF/encryption.xml"
_DOCUMENT_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/x-dtbook+xml")
# What protects fonts from being copied; everything else that is encrypted is protected from being read.
_FONT_OBFUSCATIONS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip


def extract_epub(raw: bytes) -> Extracted:
    """The text of a book: each document of the spine once, without the table of contents, `CHAPTER_BREAK` between them.

    `metadata`: `chapters`; `language`, `date` (ISO 8601), `creator`, `licence` (the text of `dc:rights`), where the
    book states them; `unreadable_chapters`, the number of those that are absent or damaged and so left out.
    Raises UnusableError for a damaged or protected (DRM) book, and for one without text.
    """
    with open_package(raw) as archive:
        if _ENCRYPTION in archive.NameToInfo:
            methods = parse_xml(archive, _ENCRYPTION).iterfind(".//{*}EncryptedData/{*}EncryptionMethod")
            if not {method.get("Algorithm") for method in methods} <= set(_FONT_OBFUSCATIONS):
                raise UnusableError("a protected book (DRM)")
        container = parse_xml(archive, "META-INF/container.xml")
        found = container.find(".//{*}rootfile[@media-type='application/oebps-package+xml']")
        if found is None:
            raise UnusableError("no package document in the container")
        path = found.get("full-path", "")
        package = parse_xml(archive, path)
        texts = [_chapter(archive, name) for name in _spine(package, posixpath.dirname(path))]
    chapters, unreadable = list(filter(None, texts)), texts.count(None)
    if not chapters:
        raise UnusableError("no chapter can be read" if unreadable else "a book without text")
    metadata = _metadata(package)
    title = metadata.pop("title", "")
    metadata["chapters"] = str(len(chapters))
    if unreadable:
        metadata["unreadable_chapters"] = str(unreadable)
    return Extracted(CHAPTER_BREAK.join(chapters), EXTRACTOR, EXTRACTOR_VERSION, title, metadata)


def _metadata(package: Element) -> dict[str, str]:
    """Dublin Core. Of several dates the first that is one, of several creators all."""
    values: dict[str, dict[str, None]] = {name: {} for name in ("title", "language", "date", "creator", "rights")}
    for element in package.iterfind("{*}metadata//*"):
        if text := " ".join((element.text or "").split()):
            values.setdefault(local_name(element.tag), {})[text] = None
    stated = {
        "title": next(iter(values["title"]), ""),
        "language": next(iter(values["language"]), ""),
        "date": next(filter(None, map(iso_date, values["date"])), ""),
        "creator": "; ".join(values["creator"]),
        "licence": " ".join(values["rights"]),
    }
    return {name: value for name, value in stated.items() if value}


def _spine(package: Element, folder: str) -> dict[str, None]:
    """The names of the documents to read, in order, each once; "" for those that the manifest lacks."""
    items = {item.get("id", ""): item for item in package.iterfind(".//{*}item")}
    names: dict[str, None] = {}
    for reference in package.iterfind(".//{*}itemref"):
        item = items.get(reference.get("idref", ""))
        if item is None:
            names[""] = None
        elif item.get("media-type") in _DOCUMENT_TYPES and "nav" not in item.get("properties", "").split():
            # One that leads out of the book is the name of no part.
            names[posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "").partition("#")[0])))] = None
    return names


def _chapter(archive: zipfile.ZipFile, name: str) -> str | None:
    """The text of a document; None for one that is absent or damaged."""
    try:
        return html_to_markdown(decode_html(read_part(archive, name)).text)
    except UnusableError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Packages


def open_package(raw: bytes) -> zipfile.ZipFile:
    """The archive in memory. Raises UnusableError when it is none."""
    try:
        return zipfile.ZipFile(io.BytesIO(raw))
    except _DAMAGE as error:
        raise UnusableError("no ZIP archive, or a damaged one") from error


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a part, no more than the archive states. Raises UnusableError: absent, encrypted, or damaged."""
    info = archive.NameToInfo.get(name)
    if info is None:
        raise UnusableError(f"no part {name} in the archive")
    try:
        with archive.open(info) as stream:
            return stream.read(info.file_size)
    except _DAMAGE as error:
        raise UnusableError(f"damaged or encrypted archive: {name}") from error


def parse_xml(archive: zipfile.ZipFile, name: str) -> Element:
    """The root element of a part. Raises UnusableError for XML that is not well-formed; the parser stops at entities
    that multiply, and fetches none."""
    raw = read_part(archive, name)
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise UnusableError(f"{name} is not well-formed XML") from error


def local_name(name: str) -> str:
    """`p` of `{namespace}p`: the two editions of OOXML differ in namespaces alone."""
    return name.rpartition("}")[2]
