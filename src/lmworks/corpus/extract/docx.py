"""DOCX documents as Markdown: mammoth makes HTML of them, and this the text.

Before that, what mammoth does not know is put in terms that it knows: headings by outline level and by the style that a
style is based on, lists by style, hidden text, and elements that only hold others.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import iso_date
from lmworks.corpus.extract.epub import local_name, open_package, parse_xml
from lmworks.corpus.extract.html_to_markdown import parse_html, tree_to_markdown

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
_BODY_TEXT = "9"  # the outline level of what is no heading
# Headings by their levels, lists of all nine levels of Word; bold, italic and struck text, which a run often is for its
# look, stays plain.
_STYLE_MAP = "\n".join((
    *(f"p.rank-{rank} => h{rank}:fresh" for rank in range(1, 7)),
    *(
        f"p:{kind}-list({level}) => {'ul|ol > li > ' * (level - 1)}{tag} > li:fresh"
        for level in range(6, 10)
        for kind, tag in (("ordered", "ol"), ("unordered", "ul"))
    ),
    "b =>", "i =>", "strike =>",
))  # fmt: skip
# Spaces that HTML would collapse, and what they are there: white space, but behind a line break none that is stripped.
_SPACES, _SPACE, _INDENTATION = re.compile("^ +| {2,}"), "\u1680", "\ue0ff"
_TITLE = re.compile(r"^#{1,6} (.+)$", re.M)
# Tables in the cells of others that are more than a frame: their text stays in that cell.
_INNER_TABLES = (
    "//table[(tr|*/tr)[2] or (tr|*/tr)/*[2]]//table/descendant-or-self::*[self::table or self::tr or self::td]"
)


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
    tree = parse_html(html)
    text = "" if tree is None else _markdown_of(tree)
    if not text.strip():
        raise UnusableError("a document without text")
    stated = _properties(parts.get("docProps/core.xml"))
    heading = _TITLE.search(text)
    title = stated.pop("title", "") or (heading[1] if heading else "")
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, title[:_MAX_TITLE], stated)


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


def _markdown_of(tree: Any) -> str:
    for element in tree.xpath(_INNER_TABLES):
        element.tag = "div"
    for number, note in enumerate(tree.xpath("//li[contains(@id, 'footnote-') or contains(@id, 'endnote-')]"), 1):
        note.getparent().tag = note.tag = "div"
        text = " ".join(" ".join("".join(paragraph.itertext()) for paragraph in note).split()).removesuffix("↑").strip()
        note[:] = []
        note.text = f"[{number}] {text}" if text else None
    return tree_to_markdown(tree).replace(_SPACE, " ").replace(_INDENTATION, " ")


def _prepare(root: Element, styles: Mapping[str, Element]) -> None:
    is_broken = False  # whether a line break came last
    for element in root.iter():
        name = local_name(element.tag)
        if element.tag.startswith(_MATHS):
            element.tag = f"{_W}{name}" if name in ("r", "t") else _HOLDER
        elif name == "t" and element.text:
            text = element.text.lstrip(" ") if is_broken else element.text
            indentation = _INDENTATION * (len(element.text) - len(text))
            element.text = indentation + _SPACES.sub(lambda found: _SPACE * len(found[0]), text)
        elif name in _HOLDERS:
            element.tag = _HOLDER
        elif _is_on(element, "r", "vanish") or _is_on(element, "sdt", "showingPlcHdr"):
            element.tag = _LEFT_OUT
        elif name == "p" and (properties := element.find("{*}pPr")) is not None:
            _set_style(properties, styles)
        is_broken = name == "br" or (is_broken and name not in ("p", "t"))


def _set_style(properties: Element, styles: Mapping[str, Element]) -> None:
    """States the rank of a paragraph, and the list that its style says it is in."""
    inherited = list(_inherited(_value(properties, "pStyle"), styles))
    levels = (_value(properties, "outlineLvl"), *map(_outline_level, inherited))
    level = next(filter(None, levels), "")
    numberings = [found for style in inherited if (found := style.find("{*}pPr/{*}numPr")) is not None]
    if numberings and properties.find("{*}numPr") is None:
        properties.append(copy(numberings[0]))
    if level.isascii() and level.isdigit():
        rank = 0 if level == _BODY_TEXT else min(int(level) + 1, 6)
        properties.insert(0, Element(f"{_W}pStyle", {f"{_W}val": f"rank-{rank}"}))


def _inherited(identifier: str, styles: Mapping[str, Element]) -> Iterator[Element]:
    """A style and those that it is based on; in a circle only some."""
    for _ in range(_MAX_INHERITANCE):
        if identifier not in styles:
            return
        yield styles[identifier]
        identifier = _value(styles[identifier], "basedOn")


def _outline_level(style: Element) -> str:
    name = _value(style, "name").lower()  # the names of the built-in styles are English in every language
    if name == "title":
        return "0"
    if name.startswith("heading ") and name[8:].isascii() and name[8:].isdigit():
        return str(int(name[8:]) - 1)
    properties = style.find("{*}pPr")
    return "" if properties is None else _value(properties, "outlineLvl")


def _is_on(element: Element, name: str, switch: str) -> bool:
    """Whether it is an element of this name, among whose properties this one is switched on."""
    found = element.find(f"{{*}}{name}Pr/{{*}}{switch}") if local_name(element.tag) == name else None
    return found is not None and _attribute(found, "val") not in ("0", "false", "off")


def _value(element: Element, name: str) -> str:
    found = element.find(f"{{*}}{name}")
    return "" if found is None else _attribute(found, "val")


def _attribute(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if local_name(key) == name), "")


def _properties(root: Element | None) -> dict[str, str]:
    """Title, date and language of the core properties (ISO 29500-2, section 8), those that have a value."""
    values = {} if root is None else {local_name(part.tag): " ".join((part.text or "").split()) for part in root}
    stated = {
        "title": values.get("title", ""),
        "date": iso_date(values.get("created", "")),
        "language": values.get("language", ""),
    }
    return {name: value for name, value in stated.items() if value}
