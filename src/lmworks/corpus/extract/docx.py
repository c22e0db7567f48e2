"""DOCX documents: text, headings, lists, tables and notes as Markdown.

An own reader of the parts, not python-docx: that library gives paragraphs and tables, but leaves out what stands in
insertions, content controls, text boxes and notes, and lets the text of deleted rows in.
"""

import zipfile
from posixpath import dirname
from posixpath import split as split_path
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import iso_date
from lmworks.corpus.extract.docx_body import Body
from lmworks.corpus.extract.docx_styles import child, read_lists, read_styles
from lmworks.corpus.extract.package import (
    attribute,
    has_part,
    local_name,
    open_package,
    parse_xml,
    read_part,
    resolve_part,
)

EXTRACTOR = "docx"
EXTRACTOR_VERSION = "1"

_COMPOUND_FILE = b"\xd0\xcf\x11\xe0"  # what .doc files are, and encrypted .docx files
_RELATIONS = ("core-properties", "endnotes", "footnotes", "numbering", "officeDocument", "styles")  # that are read
_NOTES = ("footnotes", "endnotes")
_MAX_TITLE = 1_000


def extract_docx(raw: bytes) -> Extracted:
    """The text of the body, with the notes at the end; tracked changes as if accepted; no headers, footers, comments.

    The title is that of the properties, else the first heading. `metadata`: `date` (created, ISO 8601), `language`.
    Raises UnusableError for a file that is damaged, encrypted, no document of Word, without text, or beyond the limits.
    """
    if raw.startswith(_COMPOUND_FILE):
        raise UnusableError("encrypted, or in the old format of Word (.doc)")
    with open_package(raw) as archive:
        package = _relations(archive, "")
        main = package.get("officeDocument", "word/document.xml")
        root = parse_xml(read_part(archive, main), main)
        body = child(root, "body") if local_name(root.tag) == "document" else None
        if body is None:
            raise UnusableError("no document of Word")
        related = _relations(archive, main)
        styles = read_styles(_part(archive, related.get("styles")))
        lists = read_lists(_part(archive, related.get("numbering")))
        notes = {key: note for name in _NOTES for key, note in _notes(_part(archive, related.get(name)), name).items()}
        properties = _properties(_part(archive, package.get("core-properties")))
    reader = Body(styles, lists, notes)
    text = reader.text(body)
    if not text.strip():
        raise UnusableError("a document without text")
    title = (properties.pop("title", "") or reader.first_heading)[:_MAX_TITLE]
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, title, properties)


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    """The last word of a relation's type -> the part that it leads to, from a part, or "" for the package."""
    folder, name = split_path(part)
    path = f"{folder}/_rels/{name}.rels".lstrip("/")
    if not has_part(archive, path):
        return {}
    related: dict[str, str] = {}
    for relation in parse_xml(read_part(archive, path), path):
        kind = (attribute(relation, "Type") or "").rpartition("/")[2]
        if kind in _RELATIONS and attribute(relation, "TargetMode") != "External":
            related.setdefault(kind, resolve_part(dirname(part), attribute(relation, "Target") or ""))
    return related


def _part(archive: zipfile.ZipFile, name: str | None) -> Element | None:
    """The root of a part that a document need not have."""
    return parse_xml(read_part(archive, name), name) if name and has_part(archive, name) else None


def _notes(root: Element | None, name: str) -> dict[tuple[str, str], Element]:
    """The notes by kind and id; not the lines that separate them from the page (`type`)."""
    kind = name.removesuffix("s")
    return {
        (kind, attribute(note, "id") or ""): note
        for note in (() if root is None else root)
        if local_name(note.tag) == kind and attribute(note, "type") in (None, "normal")
    }


def _properties(root: Element | None) -> dict[str, str]:
    """Title, date and language of the core properties (ISO 29500-2, section 8), those that have a value."""
    values = {} if root is None else {local_name(part.tag): " ".join((part.text or "").split()) for part in root}
    stated = {
        "title": values.get("title", ""),
        "date": iso_date(values.get("created", "")),
        "language": values.get("language", ""),
    }
    return {name: value for name, value in stated.items() if value}
