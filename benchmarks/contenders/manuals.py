"""Manuals in HTML: their pages, the text of each as its markup tells it, and where this machine has some."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import html

from contenders.articles import Page

_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")  # of an encoding that the text no longer has
_NO_TEXT = ("print", "toc", "index", "genindex", "search")  # lists of links, and all pages in one
_WORDS = 150  # of a page that says something
_BREAKS = frozenset("p div li td th tr h1 h2 h3 h4 h5 h6 section article ul ol br".split())


def find_manuals() -> list[Path]:
    """Folders of manuals in HTML on this machine: of Debian's packages, or else the book that comes with Rust."""
    counts = Counter(path.parent for path in Path("/usr/share/doc").glob("*/*html/*.html"))
    if large := sorted(folder for folder, pages in counts.items() if pages >= 20):
        return large
    rust = (Path.home() / ".rustup" / "toolchains").glob("*/share/doc/rust/html/book")
    return sorted(path for path in rust if path.is_dir())[:1]


def read_manual(folder: Path) -> list[Page]:
    """The pages of the folder that mark their text, in the order of their names, without contents and indexes."""
    pages = []
    for path in sorted(folder.glob("*.html")):
        raw = path.read_bytes()
        body = body_of_manual(raw.decode("utf-8"))
        if len(body.split()) >= _WORDS and path.stem not in (*_NO_TEXT, folder.name):
            pages.append(Page(f"{folder.name}/{path.name}", raw, body))
    return pages


def body_of_manual(page: str) -> str:
    """The text of <main>, or of what has that role (Sphinx), or of all that is no navigation (Publican); else ''."""
    root = html.document_fromstring(_DECLARATION.sub("", page))
    found = root.xpath("//main | //*[@role='main']")
    if not found and root.xpath("/html/body/ul[contains(@class, 'docnav')]"):
        for frame in root.xpath("/html/body/*[contains(@class, 'docnav') or @id='title' or @id='banner']"):
            frame.drop_tree()
        found = root.xpath("/html/body")
    return "\n".join(text_blocks(f"<body>{html.tostring(found[0], encoding='unicode')}")) if found else ""


def text_blocks(page: str) -> Iterator[str]:
    """The text of each element that stands by itself, in order."""
    held: list[str] = []
    for event, element in _events(html.document_fromstring(_DECLARATION.sub("", page))):
        if element.tag in _BREAKS and held:
            yield " ".join(held)
            held = []
        text = element.text if event == "start" else element.tail
        if text and text.strip() and (event == "end" or element.tag not in ("script", "style", "noscript", "template")):
            held.append(" ".join(text.split()))
    if held:
        yield " ".join(held)


def _events(root: Any) -> Iterator[tuple[str, Any]]:
    from lxml.etree import iterwalk, strip_elements

    body = root.find("body")
    if body is None:
        return
    strip_elements(body, "script", "style", "noscript", "template", "svg", "textarea", with_tail=False)
    for event, element in iterwalk(body, events=("start", "end")):
        if isinstance(element.tag, str):
            yield event, element
