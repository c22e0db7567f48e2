"""DOCX documents as Markdown: mammoth makes HTML of them, and this the text.

Before that, what mammoth does not know is put in terms that it knows: headings by outline level and by the style that a
style is based on, hidden text, and elements that only hold others.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import iso_date
from lmworks.corpus.extract.epub import local_name, open_package, parse_xml
from lmworks.corpus.extract.html_to_markdown import html_to_markdown

EXTRACTOR = "docx"
EXTRACTOR_VERSION = "2"

_COMPOUND_FILE = b"\xd0\xcf\x11\xe0"  # what .doc files are, and encrypted .docx files
_READ = re.compile(r"\[Content_Types\]\.xml|docProps/core\.xml|(?:word/)?_rels/[^/]+\.rels|word/[^/]+\.xml")
_MAX_TITLE = 1_000
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_HOLDERS = ("bdo", "dir", "fldSimple", "ruby", "rubyBase")  # of runs; the text of `rt` stays out
_HOLDER, _LEFT_OUT = f"{_W}smartTag", f"{_W}del"  # what mammoth looks into, and what it does not
_MAX_INHERITANCE = 20
# Headings by their levels, of which the tenth is body text; bold, italic and struck text, which a run often is for its
# look, stays plain.
_STYLE_MAP = "\n".join(
    (*(f"p.rank-{rank} => h{min(rank, 6)}:fresh" for rank in range(1, 10)), "b =>", "i =>", "strike =>")
)
_HEADING_STYLE = re.compile(r"heading ([1-9])", re.I)  # the names of the built-in styles are English in every language
_SPACES = re.compile("(?<=<br />) +|(?<=[^> ]) {2,}")  # as in code, which HTML would collapse
_SPACE = "\ue0ff"
_TITLE = re.compile(r"^#{1,6} (.+)$", re.M)


def extract_docx(raw: bytes) -> Extracted:
    """The text of the body, with the notes at the end; tracked changes as if accepted; no headers, footers, comments.

    The title is that of the properties, else the first heading. `metadata`: `date` (created, ISO 8601), `language`.
    Raises UnusableError for a file that is damaged, encrypted, no document of Word, or without text.
    """
    if raw.startswith(_COMPOUND_FILE):
        raise UnusableError("encrypted, or in the old format of Word (.doc)")
    with open_package(raw) as archive:
        parts = {name: parse_xml(archive, name) for name in archive.namelist() if _READ.fullmatch(name)}
    try:
        html = _html_of(parts)
    except MemoryError:
        raise
    except Exception as error:  # mammoth raises whatever its own code meets in a broken document
        raise UnusableError(f"no document of Word, or a damaged one: {type(error).__name__}") from error
    text = html_to_markdown(_SPACES.sub(lambda found: _SPACE * len(found[0]), html)).replace(_SPACE, " ")
    if not text.strip():
        raise UnusableError("a document without text")
    # ISO 29500-2, section 8
    properties = {
        local_name(part.tag): " ".join((part.text or "").split()) for part in parts.get("docProps/core.xml", ())
    }
    heading = _TITLE.search(text)
    title = properties.get("title") or (heading[1] if heading else "")
    stated = {"date": iso_date(properties.get("created", "")), "language": properties.get("language", "")}
    metadata = {name: value for name, value in stated.items() if value}
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, title[:_MAX_TITLE], metadata)


def _html_of(parts: Mapping[str, Element]) -> str:
    import mammoth

    roots = [root for root in parts.values() if local_name(root.tag) == "styles"]
    styles = {_attribute(style, "styleId"): style for root in roots for style in root}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, root in parts.items():
            if local_name(root.tag) in ("document", "footnotes", "endnotes"):
                _prepare(root, styles)
            archive.writestr(name, ElementTree.tostring(root))
    return mammoth.convert_to_html(
        packed, style_map=_STYLE_MAP, include_embedded_style_map=False, convert_image=lambda image: []
    ).value


def _prepare(root: Element, styles: Mapping[str, Element]) -> None:
    for element in root.iter():
        name = local_name(element.tag)
        if element.tag.startswith(_MATHS):
            element.tag = f"{_W}{name}" if name in ("r", "t") else _HOLDER
        elif name in _HOLDERS:
            element.tag = _HOLDER
        elif name == "r" and (hidden := element.find("{*}rPr/{*}vanish")) is not None:
            if _attribute(hidden, "val") not in ("0", "false", "off"):
                element.tag = _LEFT_OUT
        elif name == "p" and (properties := element.find("{*}pPr")) is not None:
            level = _value(properties, "outlineLvl") or _outline_level(_value(properties, "pStyle"), styles)
            if level.isdecimal():
                properties.insert(0, Element(f"{_W}pStyle", {f"{_W}val": f"rank-{int(level) + 1}"}))


def _outline_level(identifier: str, styles: Mapping[str, Element]) -> str:
    """The outline level of a style, or of the one that it is based on; empty where there is none, as in a circle."""
    for _ in range(_MAX_INHERITANCE):
        style = styles.get(identifier)
        name = _value(style, "name")
        if heading := _HEADING_STYLE.fullmatch(name):
            return str(int(heading[1]) - 1)
        if level := "0" if name.lower() == "title" else _value(style, "pPr/{*}outlineLvl"):
            return level
        identifier = _value(style, "basedOn")
    return ""


def _value(element: Element | None, path: str) -> str:
    found = None if element is None else element.find(f"{{*}}{path}")
    return "" if found is None else _attribute(found, "val")


def _attribute(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if local_name(key) == name), "")
