"""A web page as blocks: the runs of text between the starts and ends of block elements, in one pass over the tree."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lmworks.data.extract import UnusableError

LEFT_OUT = (  # shown by no reader, controls of the page, or no text
    "audio", "button", "canvas", "iframe", "map", "noscript", "object", "rp", "rt", "script", "select", "style", "svg",
    "template", "textarea", "title", "video",
)  # fmt: skip
BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "ul",
))  # fmt: skip
_HIDDEN = re.compile(r"display\s*:\s*none", re.I)
_NAMING = frozenset(("class", "id", "role", "itemprop"))
_PROLOGUE = re.compile(r"\A\s*(?:<\?xml[^>]*>\s*)?", re.I)
LONG = 80  # characters from which on a run of text is prose
# A page whose visible prose is this short at most, and whose hidden prose is 2.5 times as long, shows it by a script.
_NEARLY_EMPTY = 500
_WIDE = re.compile("[\u3000-\ud7a3]")


@dataclass(slots=True)
class Holder:
    """An open block element: what its blocks inherit from it and from those around it."""

    element: Any
    parent: "Holder | None"
    tag: str
    names: str  # its class, id, role and itemprop, lower-cased
    depth: int  # holders around it


@dataclass(slots=True)
class Block:
    """One run of text. `pieces` are the places in the tree that hold it: `(element, whether it is the tail)`."""

    text: str
    holder: Holder
    linked: int  # characters inside of links
    pieces: list[tuple[Any, bool]]


def parse(html: str) -> Any:
    """The tree of a page; None for one without any element.

    Raises UnusableError for what no parser can read, or only in part: elements nested too deeply.
    """
    return parse_bytes(_PROLOGUE.sub("", html, count=1).encode("utf-8", "replace"))


def parse_bytes(raw: bytes) -> Any:
    """The same for UTF-8 that does not begin with an XML declaration."""
    import lxml.etree as etree

    if not raw.strip():
        return None
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True, no_network=True, collect_ids=False
    )
    try:
        tree = etree.fromstring(raw, parser)
    except (etree.LxmlError, ValueError) as error:
        raise UnusableError("no HTML that can be parsed") from error
    if parser.error_log.filter_from_fatals():  # after which the rest of the document was not read
        raise UnusableError("HTML that can be parsed in part only: too deeply nested")
    return tree


def blocks_of(tree: Any) -> list[Block]:
    """All blocks of a page with text in them. Takes scripts, styles and controls out of the tree.

    What is hidden is left out, unless it is what the page is about: then a script shows it.
    """
    import lxml.etree as etree

    etree.strip_elements(tree, *LEFT_OUT, with_tail=False)
    body = tree.find("body")
    root = tree if body is None else body
    root.attrib.pop("style", None)  # pages hide their body until a script shows it
    root.attrib.pop("hidden", None)
    found, hidden = _walk(root)
    concealed = sum(_prose_in(element) for element in hidden)
    if concealed and concealed > 2.5 * (shown := _prose_in(root) - concealed) and shown <= _NEARLY_EMPTY:
        for element in (each for top in hidden for each in top.iter()):
            element.attrib.pop("style", None)
            element.attrib.pop("hidden", None)
        found, _ = _walk(root)
    return found


def _walk(root: Any) -> tuple[list[Block], list[Any]]:
    """The blocks, and the elements that are hidden."""
    import lxml.etree as etree

    found: list[Block] = []
    hidden: list[Any] = []
    holder = Holder(root, None, "body", "", 0)
    texts: list[str] = []
    pieces: list[tuple[Any, bool]] = []
    linked = in_link = 0

    def flush() -> None:
        nonlocal linked
        if texts:
            text = " ".join("".join(texts).split())
            if text:
                found.append(Block(text, holder, linked, pieces.copy()))
            texts.clear()
            pieces.clear()
            linked = 0

    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag
        if event == "start":
            attributes = element.items()
            concealed = bool(attributes) and element is not root and _is_hidden(attributes)
            if tag in BLOCKS:
                flush()
                holder = Holder(element, holder, tag, _names(attributes) if attributes else "", holder.depth + 1)
            elif tag == "a":
                in_link += element.get("href") is not None
            if concealed:
                hidden.append(element)
                walk.skip_subtree()
                continue
            text = element.text
            if text:
                texts.append(text)
                pieces.append((element, False))
                if in_link:
                    linked += _length(text)
        else:
            if tag in BLOCKS:
                flush()
                holder = holder.parent or holder
            elif tag == "a":
                in_link -= element.get("href") is not None
            elif tag == "br":
                texts.append(" ")
            tail = element.tail
            if tail and element is not root:
                texts.append(tail)
                pieces.append((element, True))
                if in_link:
                    linked += _length(tail)
    flush()
    return found, hidden


def _is_hidden(attributes: Sequence[tuple[str, str]]) -> bool:
    return any(name == "hidden" or (name == "style" and _HIDDEN.search(value)) for name, value in attributes)


def _prose_in(element: Any) -> int:
    return sum(length for text in element.itertext() if (length := _length(text)) >= LONG)


def _length(text: str) -> int:
    """In characters, with white space as one."""
    return width(" ".join(text.split()))


def width(text: str) -> int:
    """Its characters, those of Chinese, Japanese and Korean counted twice: they say more each."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))


def _names(attributes: Sequence[tuple[str, str]]) -> str:
    return " ".join([value for name, value in attributes if name in _NAMING]).lower()


def erase(blocks: Iterable[Block]) -> None:
    """Takes the text of these blocks out of the tree."""
    for block in blocks:
        for element, is_tail in block.pieces:
            if is_tail:
                element.tail = None
            else:
                element.text = None
