"""What the styles and the lists of a DOCX file say about a paragraph: its rank as a heading, its place in a list."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from lmworks.corpus.extract.package import attribute, local_name

MAX_LEVEL = 8  # of a list: Word has nine levels, from 0
_BODY_TEXT = 9  # the outline level of what is no heading
_MAX_INHERITANCE = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """The list that a paragraph is an item of, and its level there, from 0."""

    number: str
    level: int


@dataclass(frozen=True, slots=True)
class Style:
    """`heading` is 1 to 6, or 0 for what is none, or None where the style does not say; so is `listed`."""

    name: str = ""
    based_on: str = ""
    heading: int | None = None
    listed: Listed | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """How the items of one level of a list are marked."""

    ordered: bool
    start: int


def read_styles(root: Element | None) -> dict[str, Style]:
    """The paragraph styles by their id, each with what it inherits."""
    stated = {} if root is None else {identifier: style for identifier, style in map(_style, root) if identifier}
    return {identifier: _inherited(identifier, stated) for identifier in stated}


def read_lists(root: Element | None) -> dict[Listed, Level]:
    """How each level of each list is marked; empty without a numbering part."""
    if root is None:
        return {}
    abstract: dict[str, dict[int, Level]] = {}
    lists: dict[Listed, Level] = {}
    for element in root:
        if local_name(element.tag) == "abstractNum":
            levels = (child for child in element if local_name(child.tag) == "lvl")
            abstract[attribute(element, "abstractNumId") or ""] = dict(map(_level, levels))
        elif local_name(element.tag) == "num":
            for number, level in abstract.get(value(element, "abstractNumId") or "", {}).items():
                lists[Listed(attribute(element, "numId") or "", number)] = level
    return lists


def heading_and_list(properties: Element | None, styles: Mapping[str, Style]) -> tuple[int, Listed | None]:
    """Of a paragraph with these properties (`pPr`): its rank as a heading, 0 for none, and its place in a list."""
    if properties is None:
        return 0, None
    style = styles.get(value(properties, "pStyle") or "", Style())
    heading = _outline_level(properties)
    listed = _listed(child(properties, "numPr")) or style.listed
    if listed is not None and listed.number == "0":  # which takes the numbering of the style back
        listed = None
    return (style.heading if heading is None else heading) or 0, listed


def child(element: Element, name: str) -> Element | None:
    return next((part for part in element if local_name(part.tag) == name), None)


def value(element: Element, name: str) -> str | None:
    """The attribute `val` of the child with this name."""
    found = child(element, name)
    return None if found is None else attribute(found, "val")


def is_on(element: Element, name: str) -> bool:
    """Whether a property is switched on: its child is there, and is not set to false."""
    found = child(element, name)
    return found is not None and (attribute(found, "val") or "true") not in ("0", "false", "off")


def number_of(text: str | None, default: int, most: int) -> int:
    """A small number from an attribute."""
    return min(int(text), most) if text and len(text) <= 9 and text.isascii() and text.isdigit() else default


def _style(element: Element) -> tuple[str, Style]:
    """The id and what the style itself says; an empty id for what is no style of paragraphs."""
    if local_name(element.tag) != "style" or attribute(element, "type") != "paragraph":
        return "", Style()
    name = (value(element, "name") or "").lower()  # the names of the built-in styles are English in every language
    properties = child(element, "pPr")
    heading = None if properties is None else _outline_level(properties)
    if name == "title":
        heading = 1
    elif name.startswith("heading ") and name[8:].isascii() and name[8:].isdigit():
        heading = number_of(name[8:], 1, 6)
    listed = None if properties is None else _listed(child(properties, "numPr"))
    return attribute(element, "styleId") or "", Style(name, value(element, "basedOn") or "", heading, listed)


def _inherited(identifier: str, stated: Mapping[str, Style]) -> Style:
    style = own = stated[identifier]
    heading, listed = own.heading, own.listed
    for _ in range(_MAX_INHERITANCE):  # styles that are based on each other in a circle end here
        if style.based_on not in stated:
            break
        style = stated[style.based_on]
        heading = style.heading if heading is None else heading
        listed = listed or style.listed
    return Style(own.name, own.based_on, heading, listed)


def _outline_level(properties: Element) -> int | None:
    stated = value(properties, "outlineLvl")
    if stated is None:
        return None
    level = number_of(stated, _BODY_TEXT, _BODY_TEXT)
    return 0 if level == _BODY_TEXT else min(level + 1, 6)


def _listed(numbering: Element | None) -> Listed | None:
    number = None if numbering is None else value(numbering, "numId")
    if numbering is None or number is None:
        return None
    return Listed(number, number_of(value(numbering, "ilvl"), 0, MAX_LEVEL))


def _level(element: Element) -> tuple[int, Level]:
    form = value(element, "numFmt") or "decimal"
    level = Level(form not in ("bullet", "none"), number_of(value(element, "start"), 1, 10**6))
    return number_of(attribute(element, "ilvl"), 0, MAX_LEVEL), level
