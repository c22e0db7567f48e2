"""An (X)HTML document as Markdown, whole: headings, paragraphs, lists, tables, code, quotations and emphasis.

For documents that are all text, as the chapters of a book or a mail are; of a web page, take the main text instead.
Of a link its text is kept, but for marks of permalinks; of an image nothing. Characters that mean something in Markdown
are not escaped: the text is for reading, and `2*3*4` should stay so.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.markdown_writer import (
    BlockWriter,
    Cell,
    code_block,
    lowered,
    markdown_table,
    raised,
    span_of,
)

# Shown by no reader, or not text. `rp` and `rt` hold the pronunciation that stands over the characters of `ruby`.
LEFT_OUT = (
    "annotation", "annotation-xml", "audio", "canvas", "iframe", "map", "noscript", "object", "rp", "rt", "script",
    "select", "style", "svg", "template", "textarea", "title", "video",
)  # fmt: skip
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS | {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dir", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "legend", "li", "main", "menu",
    "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
HIDDEN = re.compile(r"display\s*:\s*none", re.I)  # the line of a mail that only its preview shows, for one
_MARKS = {"b": "**", "strong": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`", "tt": "`"}
# What HTML collapses, other than one space alone; a no-break space stays.
_SPACES = re.compile(r"[\t\n\r\f][ \t\n\r\f]*| [ \t\n\r\f]+")
_DOUBLE_SPACES = re.compile(r" {2,}")
_LINE_ENDS = re.compile(r" ?\n ?")
_MAX_TAGS = 2_000_000  # for each of which the parser takes 350 bytes
_SOFT_HYPHEN = "\u00ad"  # where a word may be divided: no part of the text
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.S)
_PROLOGUE = re.compile(r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE[^>\[]*(?:\[[^\]]*\][^>]*)?>)?", re.I)
_LANGUAGE = re.compile(r"(?:language|lang)-([\w+#.-]{1,30})")
_NOTE = re.compile(r"[\[(]?((?:\d{1,4}|[a-z]{1,2}|[ivxlc]{1,6}|[*†‡§¶]{1,3}))[\])]?")
# The text of a link within its page to the place where it stands: a symbol that marks no note, or words for it.
_PERMALINK = re.compile(r"[^\w*†‡]+|(?:perma(?:nent )?link|(?:direct |copy )?link to|section titled)\b.*", re.I | re.S)


def xhtml_to_markdown(text: str) -> str:
    """The text of a document of decoded characters; empty when it has none. References to its notes become `[n]`.

    Errors as of `parse_html`.
    """
    tree = parse_html(_CDATA.sub(lambda match: match[1].replace("&", "&amp;").replace("<", "&lt;"), text))
    return "" if tree is None else tree_to_markdown(tree)


def parse_html(text: str) -> Any:
    """The tree of a page; None for one without any element.

    Broken markup is read as libxml2's HTML parser mends it; entities that the document declares are not expanded.
    Raises UnusableError for elements nested so deeply (2048) that the parser gives up in the middle, and for more than
    2 million tags.
    """
    import lxml.etree as etree

    if (count := text.count("<")) > _MAX_TAGS:
        raise UnusableError(f"HTML with more than {_MAX_TAGS:,} tags ({count:,})")
    raw = _PROLOGUE.sub("", text, count=1).encode("utf-8", "replace")
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


def tree_to_markdown(tree: Any) -> str:
    """The text of a tree of lxml, out of which it takes what is shown to no reader."""
    import lxml.etree as etree

    etree.strip_elements(tree, *LEFT_OUT, with_tail=False)
    page = _Page()
    walk = etree.iterwalk(tree, events=("start", "end"))  # no recursion: hostile trees are deep
    for event, element in walk:
        tag = element.tag
        opening, closing = _TAGS.get(tag, (None, None))
        if event == "start":
            if tag in BLOCKS:
                page.flush()
            if opening is not None:
                opening(page, element)
            if tag == "math" and element.get("alttext"):
                page.add(f"${element.get('alttext')}$")
                walk.skip_subtree()
            elif HIDDEN.search(element.get("style", "")):
                walk.skip_subtree()
            elif element.text:
                page.add(element.text)
        else:
            if tag in BLOCKS:
                page.flush("#" * int(tag[1]) + " " if tag in HEADINGS else "")
            if closing is not None:
                closing(page, element)
            if element.tail:
                page.add(element.tail)
    page.flush()
    return page.writer.text()


class _Permalink(str):
    """A piece of inline text that is left out of a heading, and at the end of a text; a pilcrow everywhere."""


@dataclass(slots=True)
class _List:
    number: int | None  # of the next item, where items are numbered
    nested: bool
    items: int = 0


@dataclass(slots=True)
class _Table:
    rows: list[list[Cell]] = field(default_factory=list)
    cell: list[str] | None = None  # the blocks of the open cell
    columns: int = 1  # that it covers
    covered_rows: int = 1

    def finish_cell(self) -> None:
        if self.cell is not None:
            self.rows = self.rows or [[]]
            self.rows[-1].append(Cell(" ".join(self.cell), self.columns, self.covered_rows))
            self.cell = None


class _Page:
    """Collects inline text until a block begins or ends, and hands it on as a block."""

    def __init__(self) -> None:
        self.writer = BlockWriter()
        self.inline: list[str] = []
        self.open: dict[str, int] = {}  # mark, or element -> where in `inline` its content begins
        self.lists: list[_List] = []
        self.table: _Table | None = None
        self.pre = 0  # open `pre` elements
        self.heading = 0  # open headings

    def add(self, text: str) -> None:
        self.inline.append(text if self.pre else _SPACES.sub(" ", text))

    def flush(self, prefix: str = "") -> None:
        """Ends the paragraph. Two line breaks in it end a paragraph as well. In `pre`, a block is only a new line."""
        if self.pre:
            if self.inline and not self.inline[-1].endswith("\n"):
                self.inline.append("\n")
            return
        self.open.clear()
        if not self.inline:
            return
        text = _DOUBLE_SPACES.sub(" ", "".join(self._without_permalinks(in_heading=bool(prefix))))
        self.inline.clear()
        text = _LINE_ENDS.sub("\n", text).replace(_SOFT_HYPHEN, "")
        for paragraph in (text.replace("\n", " "),) if prefix else text.split("\n\n"):
            self.emit(paragraph.strip(), prefix)

    def _without_permalinks(self, in_heading: bool) -> list[str]:
        """The inline text; all of it where it is nothing else."""
        end = len(self.inline)
        while end and (isinstance(self.inline[end - 1], _Permalink) or not self.inline[end - 1].strip()):
            end -= 1
        kept = [
            each for each in self.inline[:end] if not isinstance(each, _Permalink) or not (in_heading or "¶" in each)
        ]
        return kept if any(map(str.strip, kept)) else self.inline

    def emit(self, text: str, prefix: str = "") -> None:
        if text and self.table is not None and self.table.cell is not None:
            self.table.cell.append(text)
        elif text:
            self.writer.block(prefix + text)

    def start_inline(self, element: Any) -> None:
        name = str(element.tag)
        if name not in _MARKS or not (self.pre or self.heading):
            self.open.setdefault(_MARKS.get(name, name), len(self.inline))

    def end_inline(self, element: Any) -> None:
        """Puts what the element makes of its content in its place, where no block came between."""
        name = str(element.tag)
        start = self.open.pop(_MARKS.get(name, name), None)
        if start is not None:
            content = "".join(self.inline[start:])
            self.inline[start:] = [_INLINE.get(name, _marked)(element, content)]

    def start_heading(self, element: Any) -> None:
        self.heading += 1

    def end_heading(self, element: Any) -> None:
        self.heading -= 1

    def line_break(self, element: Any) -> None:
        self.inline.append("\n")

    def rule(self, element: Any) -> None:
        if not self.pre:
            self.emit("---")

    def start_pre(self, element: Any) -> None:
        self.pre += 1

    def end_pre(self, element: Any) -> None:
        self.pre -= 1
        if self.pre:
            return
        text = "".join(self.inline)
        self.inline.clear()
        self.open.clear()
        code = element.find("code")
        language = _LANGUAGE.search(f"{element.get('class', '')} {code.get('class', '') if code is not None else ''}")
        in_cell = self.table is not None and self.table.cell is not None
        self.emit(text.strip() if in_cell else code_block(text, language[1] if language else ""))

    def start_quotation(self, element: Any) -> None:
        self.writer.open("> ", "> ")

    def end_container(self, element: Any) -> None:
        self.writer.close()

    def start_list(self, element: Any) -> None:
        number = None
        if element.tag == "ol":
            start = element.get("start", "1").strip()
            number = int(start) if start.isascii() and start.isdigit() and len(start) <= 9 else 1
        self.lists.append(_List(number, nested=bool(self.lists)))

    def end_list(self, element: Any) -> None:
        self.lists.pop()

    def start_item(self, element: Any) -> None:
        owner = self.lists[-1] if self.lists else _List(None, nested=False)
        marker = "- " if owner.number is None else f"{owner.number}. "
        self.writer.open(marker, " " * len(marker), tight=owner.nested or owner.items > 0)
        owner.items += 1
        owner.number = None if owner.number is None else owner.number + 1

    def start_table(self, element: Any) -> None:
        if self.table is None and not self.pre and _holds_data(element):
            self.table = _Table()

    def end_table(self, element: Any) -> None:
        table, self.table = self.table, None
        if table is not None:
            self.emit(markdown_table(table.rows))

    def start_row(self, element: Any) -> None:
        if self.table is not None:
            self.table.rows.append([])

    def start_cell(self, element: Any) -> None:
        if self.table is not None:
            self.table.finish_cell()  # of a cell inside of a cell, which broken markup may have
            self.table.cell = []
            self.table.columns, self.table.covered_rows = (span_of(element.get(f"{way}span")) for way in ("col", "row"))

    def end_cell(self, element: Any) -> None:
        if self.table is not None:
            self.table.finish_cell()


_Action = Callable[[_Page, Any], None]
_TAGS: Mapping[str, tuple[_Action, _Action | None]] = {
    **dict.fromkeys((*_MARKS, "a", "sub", "sup"), (_Page.start_inline, _Page.end_inline)),
    **dict.fromkeys(HEADINGS, (_Page.start_heading, _Page.end_heading)),
    **dict.fromkeys(("ul", "ol"), (_Page.start_list, _Page.end_list)),
    **dict.fromkeys(("td", "th"), (_Page.start_cell, _Page.end_cell)),
    "blockquote": (_Page.start_quotation, _Page.end_container),
    "br": (_Page.line_break, None),
    "hr": (_Page.rule, None),
    "li": (_Page.start_item, _Page.end_container),
    "pre": (_Page.start_pre, _Page.end_pre),
    "table": (_Page.start_table, _Page.end_table),
    "tr": (_Page.start_row, None),
}


# ---------------------------------------------------------------------------------------------------------------------
# What stands for an inline element and its content


def _marked(element: Any, content: str) -> str:
    """The marks stand close to the words, or they would mean nothing in Markdown."""
    mark, words = _MARKS[element.tag], content.strip()
    if not words or words.count("\n") > 1 or (mark == "`" and mark in words):
        return content
    start = content.index(words)
    return f"{content[:start]}{mark}{words}{mark}{content[start + len(words) :]}"


def _script(element: Any, content: str) -> str:
    """`x<sup>2</sup>` as x², which `x2` would not be; a note's number is left to its link."""
    parent = element.getparent()
    in_link = parent is not None and parent.tag == "a" and "#" in parent.get("href", "")
    return content if in_link else (raised if element.tag == "sup" else lowered)(content)


def _link(element: Any, content: str) -> str:
    address = element.get("href", "")
    note = _NOTE.fullmatch(content.strip()) if "#" in address else None
    if note and _is_note_reference(element):
        return f"[{note[1]}]"
    return _Permalink(content) if address.startswith("#") and _PERMALINK.fullmatch(content.strip()) else content


_INLINE = {"a": _link, "sub": _script, "sup": _script}


def _is_note_reference(element: Any) -> bool:
    """By EPUB's semantics (`epub:type`) or its successor, or because it is raised above the line."""
    kinds = f"{element.get('epub:type', '')} {element.get('role', '')}".split()
    parent = element.getparent()
    raised_link = (parent is not None and parent.tag == "sup") or element.find("sup") is not None
    return raised_link or "noteref" in kinds or "doc-noteref" in kinds


def _holds_data(table: Any) -> bool:
    """Whether a table is one, and not a means of layout, as in mails: several columns, and no table inside.

    The search ends at the first table inside, so that nested tables are not searched again from each level.
    """
    if table.get("role") in ("presentation", "none"):
        return False
    widest = cells = 0
    for part in table.iter("table", "tr", "td", "th"):
        if part.tag == "table" and part is not table:
            return False
        cells = 0 if part.tag == "tr" else cells + (part.tag != "table")
        widest = max(widest, cells)
    return widest > 1
