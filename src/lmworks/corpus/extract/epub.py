"""EPUB books: the documents of the spine as Markdown, in its order, with a form feed between each two."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from posixpath import dirname
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode_html
from lmworks.corpus.extract.dates import iso_date
from lmworks.corpus.extract.html_to_markdown import xhtml_to_markdown
from lmworks.corpus.extract.package import (
    attribute,
    has_part,
    local_name,
    open_package,
    parse_xml,
    part_size,
    read_part,
    resolve_part,
)

EXTRACTOR = "epub"
EXTRACTOR_VERSION = "2"
CHAPTER_BREAK = "\f"

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PACKAGE_TYPE = "application/oebps-package+xml"
_DOCUMENT_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/x-dtbook+xml")
# What protects fonts from being copied; everything else that is encrypted is protected from being read.
_FONT_OBFUSCATIONS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_MAX_DOCUMENTS = 10_000
_MAX_DOCUMENT_BYTES = 32 << 20
_MAX_BYTES = 128 << 20  # of all documents of a book together


@dataclass(frozen=True, slots=True)
class _Item:
    """An entry of the manifest: `reference` relative to the package document, and the id of what to show instead."""

    reference: str
    media_type: str
    properties: str
    fallback: str


def extract_epub(raw: bytes) -> Extracted:
    """The text of a book: each document of the spine once, without the table of contents, `CHAPTER_BREAK` between them.

    `metadata`: `chapters`; `language`, `date` (ISO 8601), `creator`, `licence` (the text of `dc:rights`), where the
    book states them; `unreadable_chapters`, the number of those that are absent or damaged and so left out.
    Raises UnusableError for a damaged or protected (DRM) book, one without text, and one beyond the limits on size.
    """
    with open_package(raw) as archive:
        _refuse_protection(archive)
        path = _package_path(archive)
        package = parse_xml(read_part(archive, path), path)
        metadata = _metadata(package)
        chapters, unreadable = _chapters(archive, _spine(archive, package, dirname(path)))
    if not chapters:
        raise UnusableError("no chapter can be read" if unreadable else "a book without text")
    title = metadata.pop("title", "")
    metadata["chapters"] = str(len(chapters))
    if unreadable:
        metadata["unreadable_chapters"] = str(unreadable)
    return Extracted(CHAPTER_BREAK.join(chapters), EXTRACTOR, EXTRACTOR_VERSION, title, metadata)


def _refuse_protection(archive: zipfile.ZipFile) -> None:
    if not has_part(archive, _ENCRYPTION):
        return
    for element in parse_xml(read_part(archive, _ENCRYPTION), _ENCRYPTION).iter():
        if local_name(element.tag) != "EncryptedData":
            continue
        methods = [child for child in element if local_name(child.tag) == "EncryptionMethod"]
        if not methods or any(attribute(method, "Algorithm") not in _FONT_OBFUSCATIONS for method in methods):
            raise UnusableError("a protected book (DRM)")


def _package_path(archive: zipfile.ZipFile) -> str:
    for element in parse_xml(read_part(archive, _CONTAINER), _CONTAINER).iter():
        if local_name(element.tag) == "rootfile" and attribute(element, "media-type") == _PACKAGE_TYPE:
            return resolve_part("", attribute(element, "full-path") or "")
    raise UnusableError("no package document in the container")


def _metadata(package: Element) -> dict[str, str]:
    """Dublin Core. Of several dates the first that is one, of several creators all."""
    values: dict[str, list[str]] = {}
    section = next((child for child in package if local_name(child.tag) == "metadata"), None)
    for element in () if section is None else section.iter():
        if text := " ".join("".join(element.itertext()).split()) if len(element) == 0 else "":
            values.setdefault(local_name(element.tag), []).append(text)
    dates = list(filter(None, map(iso_date, values.get("date", ()))))
    stated = {
        "title": next(iter(values.get("title", ())), ""),
        "language": next(iter(values.get("language", ())), ""),
        "date": dates[0] if dates else "",
        "creator": "; ".join(dict.fromkeys(values.get("creator", ()))),
        "licence": " ".join(dict.fromkeys(values.get("rights", ()))),
    }
    return {name: value for name, value in stated.items() if value}


def _spine(archive: zipfile.ZipFile, package: Element, folder: str) -> Iterator[str]:
    """The names of the documents to read, in order, each once; "" for one that the manifest or the archive lacks."""
    items = {
        attribute(element, "id") or "": _Item(
            attribute(element, "href") or "",
            (attribute(element, "media-type") or "").lower(),
            attribute(element, "properties") or "",
            attribute(element, "fallback") or "",
        )
        for element in package.iter()
        if local_name(element.tag) == "item"
    }
    seen: set[str] = set()
    for element in package.iter():
        if local_name(element.tag) != "itemref":
            continue
        identifier = attribute(element, "idref") or ""
        item = _readable(items, identifier)
        if item is None:
            if identifier not in items:
                yield ""
            continue  # a picture, or the like
        name = resolve_part(folder, unquote(item.reference.partition("#")[0]))
        if name in seen or "nav" in item.properties.split():
            continue
        seen.add(name)
        if len(seen) > _MAX_DOCUMENTS:
            raise UnusableError(f"more than {_MAX_DOCUMENTS:,} documents in the spine")
        yield name if has_part(archive, name) else ""


def _readable(items: dict[str, _Item], identifier: str) -> _Item | None:
    """The item, or the first of its fallbacks that is a document of text; None when there is none, or only a cycle."""
    seen: set[str] = set()
    while identifier in items and identifier not in seen:
        seen.add(identifier)
        item = items[identifier]
        if item.media_type in _DOCUMENT_TYPES:
            return item
        identifier = item.fallback
    return None


def _chapters(archive: zipfile.ZipFile, names: Iterator[str]) -> tuple[list[str], int]:
    """The texts of the documents that have some, and the number of those that cannot be read."""
    chapters: list[str] = []
    unreadable = size = 0
    for name in names:
        size += part_size(archive, name)
        if size > _MAX_BYTES:
            raise UnusableError(f"the documents of the book unpack to more than {_MAX_BYTES:,} bytes")
        try:
            text = xhtml_to_markdown(decode_html(read_part(archive, name, _MAX_DOCUMENT_BYTES)).text)
        except UnusableError:
            unreadable += 1
            continue
        if text:
            chapters.append(text)
    return chapters, unreadable
