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
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr",
    "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "ul",
))  # fmt: skip
_HIDDEN = re.compile(r"display\s*:\s*none", re.I)
_NAMING = frozenset(("class", "id", "role", "itemprop"))
_PROLOGUE = re.compile(r"\A\s*(?:<\?xml[^>]*>\s*)?", re.I)


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

    @property
    def link_density(self) -> float:
        return min(1.0, self.linked / len(self.text))


def parse(html: str) -> Any:
    """The tree of a page; None for one without any element.

    Raises UnusableError for what no parser can read, or only in part: elements nested too deeply.
    """
    from lxml import etree

    raw = _PROLOGUE.sub("", html, count=1).encode("utf-8", "replace")
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
    """All blocks of a page with text in them. Takes scripts, styles and controls out of the tree."""
    from lxml import etree

    etree.strip_elements(tree, *LEFT_OUT, with_tail=False)
    body = tree.find("body")
    root = tree if body is None else body
    root.attrib.pop("style", None)  # pages hide their body until a script shows it
    found: list[Block] = []
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
            if tag in _BLOCKS:
                if texts:
                    flush()
                attributes = element.items()
                if attributes and element is not root and _is_hidden(attributes):
                    walk.skip_subtree()
                    holder = Holder(element, holder, tag, "", holder.depth + 1)
                    continue
                holder = Holder(element, holder, tag, _names(attributes) if attributes else "", holder.depth + 1)
            else:
                if tag == "a":
                    in_link += 1
                style = element.get("style")
                if style and _HIDDEN.search(style):
                    walk.skip_subtree()
                    continue
            text = element.text
            if text:
                texts.append(text)
                pieces.append((element, False))
                if in_link:
                    linked += len(text.strip())
        else:
            if tag in _BLOCKS:
                if texts:
                    flush()
                holder = holder.parent or holder
            elif tag == "a":
                in_link -= 1
            elif tag == "br":
                texts.append(" ")
            tail = element.tail
            if tail and element is not root:
                texts.append(tail)
                pieces.append((element, True))
                if in_link:
                    linked += len(tail.strip())
    flush()
    return found


def _is_hidden(attributes: Sequence[tuple[str, str]]) -> bool:
    return any(name == "style" and _HIDDEN.search(value) for name, value in attributes)


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
