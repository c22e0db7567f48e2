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
from lmworks.corpus.extract.markdown_writer import BlockWriter, Cell, code_block, markdown_table, script

# Shown by no reader, or not text. `rp` and `rt` hold the pronunciation that stands over the characters of `ruby`.
LEFT_OUT = tuple(
    "annotation annotation-xml audio canvas iframe map noscript object rp rt script select style svg template textarea "
    "title video".split()
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS | frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure footer "
    "form header hgroup hr legend li main menu nav ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
HIDDEN = re.compile(r"display\s*:\s*none", re.I)  # the line of a mail that only its preview shows, for one
_MARKS = {"b": "**", "strong": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`", "tt": "`"}
# What HTML collapses, other than one space alone; a no-break space stays.
_SPACES = re.compile(r"[\t\n\r\f][ \t\n\r\f]*| [ \t\n\r\f]+")
_DOUBLE_SPACES = re.compile(r" {2,}")
_LINE_ENDS = re.compile(r" ?\n ?")
_SOFT_HYPHEN = "\u00ad"  # where a word may be divided: no part of the text
_PROLOGUE = re.compile(r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE[^>\[]*(?:\[[^\]]*\][^>]*)?>)?", re.I)
_LANGUAGE = re.compile(r"(?:language|lang)-([\w+#.-]{1,30})")
_NOTE = re.compile(r"[\[(]?((?:\d{1,4}|[a-z]{1,2}|[ivxlc]{1,6}|[*†‡§¶]{1,3}))[\])]?")
# The text of a link within its page to the place where it stands: a symbol that marks no note, or words for it.
_PERMALINK = re.compile(r"[^\w*†‡]+|(?:perma(?:nent )?link|(?:direct |copy )?link to|section titled)\b.*", re.I | re.S)


def html_to_markdown(text: str) -> str:
    """The text of a document of decoded characters; empty when it has none. References to its notes become `[n]`.

    Errors as of `parse_html`.
    """
    tree = parse_html(text)
    return "" if tree is None else tree_to_markdown(tree)


def parse_html(text: str) -> Any:
    """The tree of a page; None for one without any element.

    Broken markup is read as libxml2's HTML parser mends it; entities that the document declares are not expanded.
    Raises UnusableError for elements nested so deeply (2048) that the parser gives up in the middle.
    """
    import lxml.etree as etree

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
        if tag in BLOCKS:
            page.flush("#" * int(tag[1]) + " " if event == "end" and tag in HEADINGS else "")
        if event == "end":
            page.end(tag, element)
            page.add(element.tail)
            continue
        page.start(tag, element)
        if tag == "math" and element.get("alttext"):
            page.add(f"${element.get('alttext')}$")
            walk.skip_subtree()
        elif HIDDEN.search(element.get("style", "")):
            walk.skip_subtree()
        else:
            page.add(element.text)
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
    spans: tuple[int, int] = (1, 1)  # columns and rows that it covers

    def finish_cell(self) -> None:
        if self.cell is not None:
            self.rows = self.rows or [[]]
            self.rows[-1].append(Cell(" ".join(self.cell), *self.spans))
            self.cell = None


class _Page:
    """Collects inline text until a block begins or ends, and hands it on as a block."""

    def __init__(self) -> None:
        self.writer = BlockWriter()
        self._inline: list[str] = []
        self._open: dict[str, int] = {}  # mark, or element -> where in `_inline` its content begins
        self._lists: list[_List] = []
        self._table: _Table | None = None
        self._pre = self._headings = 0  # open ones

    def start(self, tag: str, element: Any) -> None:
        match tag:
            case "br":
                self._inline.append("\n")
            case "hr" if not self._pre:
                self._emit("---")
            case "pre":
                self._pre += 1
            case "blockquote":
                self.writer.open("> ", "> ")
            case "ul" | "ol":
                start = element.get("start", "1").strip()
                number = int(start) if start.isascii() and start.isdigit() and len(start) <= 9 else 1
                self._lists.append(_List(number if tag == "ol" else None, nested=bool(self._lists)))
            case "li":
                owner = self._lists[-1] if self._lists else _List(None, nested=False)
                marker = "- " if owner.number is None else f"{owner.number}. "
                self.writer.open(marker, " " * len(marker), tight=owner.nested or owner.items > 0)
                owner.items += 1
                owner.number = None if owner.number is None else owner.number + 1
            case "table" if self._table is None and not self._pre and _holds_data(element):
                self._table = _Table()
            case "tr" if self._table is not None:
                self._table.rows.append([])
            case "td" | "th" if self._table is not None:
                self._table.finish_cell()  # of a cell inside of a cell, which broken markup may have
                self._table.cell = []
                self._table.spans = (_span(element.get("colspan")), _span(element.get("rowspan")))
            case _ if tag in HEADINGS:
                self._headings += 1
            case _ if tag in _INLINE and (tag not in _MARKS or not (self._pre or self._headings)):
                self._open.setdefault(_MARKS.get(tag, tag), len(self._inline))

    def end(self, tag: str, element: Any) -> None:
        match tag:
            case "pre":
                self._pre -= 1
                if not self._pre:
                    self._emit_code(element)
            case "blockquote" | "li":
                self.writer.close()
            case "ul" | "ol":
                self._lists.pop()
            case "table":
                table, self._table = self._table, None
                self._emit(markdown_table(table.rows) if table is not None else "")
            case "td" | "th" if self._table is not None:
                self._table.finish_cell()
            case _ if tag in HEADINGS:
                self._headings -= 1
            case _ if tag in _INLINE:  # what it makes of its content takes its place, where no block came between
                start = self._open.pop(_MARKS.get(tag, tag), None)
                if start is not None:
                    self._inline[start:] = [_INLINE[tag](element, "".join(self._inline[start:]))]

    def add(self, text: str | None) -> None:
        if text:
            self._inline.append(text if self._pre else _SPACES.sub(" ", text))

    def flush(self, prefix: str = "") -> None:
        """Ends the paragraph. Two line breaks in it end a paragraph as well. In `pre`, a block is only a new line."""
        if self._pre:
            if self._inline and not self._inline[-1].endswith("\n"):
                self._inline.append("\n")
            return
        self._open.clear()
        if not self._inline:
            return
        text = _DOUBLE_SPACES.sub(" ", "".join(self._without_permalinks(in_heading=bool(prefix))))
        self._inline.clear()
        text = _LINE_ENDS.sub("\n", text).replace(_SOFT_HYPHEN, "")
        for paragraph in (text.replace("\n", " "),) if prefix else text.split("\n\n"):
            self._emit(paragraph.strip(), prefix)

    def _without_permalinks(self, in_heading: bool) -> list[str]:
        """The inline text; all of it where it is nothing else."""
        end = len(self._inline)
        while end and (isinstance(self._inline[end - 1], _Permalink) or not self._inline[end - 1].strip()):
            end -= 1
        kept = [
            each for each in self._inline[:end] if not isinstance(each, _Permalink) or not (in_heading or "¶" in each)
        ]
        return kept if any(map(str.strip, kept)) else self._inline

    def _emit_code(self, element: Any) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        self._open.clear()
        code = element.find("code")
        language = _LANGUAGE.search(f"{element.get('class', '')} {code.get('class', '') if code is not None else ''}")
        in_cell = self._table is not None and self._table.cell is not None
        self._emit(text.strip() if in_cell else code_block(text, language[1] if language else ""))

    def _emit(self, text: str, prefix: str = "") -> None:
        if text and self._table is not None and self._table.cell is not None:
            self._table.cell.append(text)
        elif text:
            self.writer.block(prefix + text)


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
    return content if in_link else script(content, element.tag)


def _link(element: Any, content: str) -> str:
    """A reference to a note is one by EPUB's semantics (`epub:type`) or its successor, or is raised above the line."""
    address, parent = element.get("href", ""), element.getparent()
    note = _NOTE.fullmatch(content.strip()) if "#" in address else None
    kinds = f"{element.get('epub:type', '')} {element.get('role', '')}".split()
    is_raised = (parent is not None and parent.tag == "sup") or element.find("sup") is not None
    if note and (is_raised or "noteref" in kinds or "doc-noteref" in kinds):
        return f"[{note[1]}]"
    return _Permalink(content) if address.startswith("#") and _PERMALINK.fullmatch(content.strip()) else content


_INLINE: Mapping[str, Callable[[Any, str], str]] = {
    **dict.fromkeys(_MARKS, _marked), "a": _link, "sub": _script, "sup": _script,
}  # fmt: skip


def _span(value: str | None) -> int:
    """A number of columns or rows from an attribute; 1 when it is none."""
    return int(value) if value and len(value) <= 4 and value.isascii() and value.isdigit() else 1


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
