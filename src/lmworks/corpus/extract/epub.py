"""EPUB books: the documents of the spine as Markdown, in its order, with a form feed between each two.

Also the ZIP packages of XML parts that such books are: reading a part costs no more than it says, and no entity is
declared. DOCX has them too.
"""

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html, iso_date
from lmworks.corpus.extract.html_to_markdown import html_to_markdown

EXTRACTOR = "epub"
EXTRACTOR_VERSION = "2"
CHAPTER_BREAK = "\f"

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_DOCUMENT_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/x-dtbook+xml")
# What protects fonts from being copied; everything else that is encrypted is protected from being read.
_FONT_OBFUSCATIONS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_FREE = 4 << 20  # bytes that a part may unpack to, however small it is packed
_RATIO = 100  # times its size that a larger one may unpack to; XML comes to 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that OPC (ISO 29500-2) and EPUB OCF allow
_ENCRYPTED = 0x1  # bit 0 of the general purpose flags
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
        _refuse_protection(archive)
        container = parse_xml(archive, _CONTAINER)
        found = container.find(".//{*}rootfile[@media-type='application/oebps-package+xml']")
        if found is None:
            raise UnusableError("no package document in the container")
        path = _inside("", found.get("full-path", ""))
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


def _refuse_protection(archive: zipfile.ZipFile) -> None:
    if _ENCRYPTION not in archive.NameToInfo:
        return
    for element in parse_xml(archive, _ENCRYPTION).iterfind(".//{*}EncryptedData"):
        methods = [method.get("Algorithm") for method in element.iterfind("{*}EncryptionMethod")]
        if not methods or not set(methods) <= set(_FONT_OBFUSCATIONS):
            raise UnusableError("a protected book (DRM)")


def _metadata(package: Element) -> dict[str, str]:
    """Dublin Core. Of several dates the first that is one, of several creators all."""
    values: dict[str, list[str]] = {}
    for element in package.iterfind("{*}metadata//*"):
        if text := " ".join((element.text or "").split()):
            values.setdefault(local_name(element.tag), []).append(text)
    stated = {
        "title": next(iter(values.get("title", ())), ""),
        "language": next(iter(values.get("language", ())), ""),
        "date": next(filter(None, map(iso_date, values.get("date", ()))), ""),
        "creator": "; ".join(dict.fromkeys(values.get("creator", ()))),
        "licence": " ".join(dict.fromkeys(values.get("rights", ()))),
    }
    return {name: value for name, value in stated.items() if value}


def _spine(package: Element, folder: str) -> Iterator[str]:
    """The names of the documents to read, in order, each once; "" for one that the manifest lacks."""
    items = {item.get("id", ""): item for item in package.iterfind(".//{*}item")}
    seen: set[str] = set()
    for reference in package.iterfind(".//{*}itemref"):
        identifier = reference.get("idref", "")
        item = _readable(items, identifier)
        if item is None:
            if identifier not in items:
                yield ""
            continue  # a picture, or the like
        name = _inside(folder, unquote(item.get("href", "").partition("#")[0]))
        if name not in seen and "nav" not in item.get("properties", "").split():
            seen.add(name)
            yield name


def _readable(items: dict[str, Element], identifier: str) -> Element | None:
    """The item, or the first of its fallbacks that is a document of text; None when there is none, or only a cycle."""
    seen: set[str] = set()
    while identifier in items and identifier not in seen:
        seen.add(identifier)
        item = items[identifier]
        if item.get("media-type", "").lower() in _DOCUMENT_TYPES:
            return item
        identifier = item.get("fallback", "")
    return None


def _chapter(archive: zipfile.ZipFile, name: str) -> str | None:
    """The text of a document; None for one that is absent or damaged."""
    try:
        return html_to_markdown(decode_html(read_part(archive, name)).text)
    except UnusableError:
        return None


def _inside(folder: str, reference: str) -> str:
    """The name of the part that a reference from a file of `folder` points to. UnusableError when it leads outside."""
    is_absolute = reference.startswith("/")
    name = posixpath.normpath(reference.lstrip("/") if is_absolute else posixpath.join(folder, reference))
    if name.startswith(("..", "/")) or "\\" in name or "://" in reference:
        raise UnusableError(f"a reference out of the archive: {reference[:80]}")
    return name


# ---------------------------------------------------------------------------------------------------------------------
# Packages


def open_package(raw: bytes) -> zipfile.ZipFile:
    """The archive in memory. Raises UnusableError when it is none."""
    try:
        return zipfile.ZipFile(io.BytesIO(raw))
    except _DAMAGE as error:
        raise UnusableError("no ZIP archive, or a damaged one") from error


def read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a part. Raises UnusableError: absent, encrypted, a bomb, or damaged.

    The size that the archive states is an upper limit even when it lies, because no more than that is unpacked.
    """
    info = archive.NameToInfo.get(name)
    if info is None:
        raise UnusableError(f"no part {name} in the archive")
    if info.flag_bits & _ENCRYPTED:
        raise UnusableError("encrypted")
    if info.compress_type not in _COMPRESSIONS:
        raise UnusableError(f"{name} is packed by a method that such a file may not use ({info.compress_type})")
    packed = min(info.compress_size, archive.start_dir)  # it cannot be more than lies before the directory
    if info.file_size > max(_FREE, _RATIO * packed):
        raise UnusableError(f"{name} unpacks to more than {_RATIO} times its size")
    try:
        with archive.open(info) as stream:
            return stream.read(info.file_size)  # read() without a size would inflate up to 2 GiB before it cuts
    except _DAMAGE as error:
        raise UnusableError(f"damaged archive: {name}") from error


def parse_xml(archive: zipfile.ZipFile, name: str) -> Element:
    """The root element of a part. Raises UnusableError for XML that is not well-formed, or that declares entities.

    Entities of an own making serve no document of these formats, only attacks ("billion laughs", external files).
    Zero bytes are left out of the search, so that it finds the declaration in UTF-16 as well; the parser reads no
    encoding in which these characters are other bytes.
    """
    raw = read_part(archive, name)
    if b"<!ENTITY" in raw.replace(b"\0", b""):
        raise UnusableError(f"{name} declares entities")
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise UnusableError(f"{name} is not well-formed XML") from error


def local_name(name: str) -> str:
    """`p` of `{namespace}p`: the two editions of OOXML differ in namespaces alone."""
    return name.rpartition("}")[2]
