"""An (X)HTML document as Markdown, whole: headings, paragraphs, lists, tables, code, quotations and emphasis.

For documents that are all text, as the chapters of a book or a mail are; of a web page, take the main text instead.
Of a link its text is kept, but for marks of permalinks; of an image nothing. Characters that mean something in Markdown
are not escaped: the text is for reading, and `2*3*4` should stay so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lmworks.data.extract import UnusableError
from lmworks.data.extractors.block_writer import BlockWriter, code_block
from lmworks.data.extractors.markdown_table import Cell, markdown_table, span_of
from lmworks.data.extractors.scripts import lowered, raised

# Shown by no reader, or not text. `rp` and `rt` hold the pronunciation that stands over the characters of `ruby`.
_LEFT_OUT = (
    "annotation", "annotation-xml", "audio", "canvas", "iframe", "map", "noscript", "object", "rp", "rt", "script",
    "select", "style", "svg", "template", "textarea", "title", "video",
)  # fmt: skip
_BLOCKS = (
    "address", "article", "aside", "body", "caption", "center", "dd", "details", "dir", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "header", "hgroup", "legend", "main", "menu", "nav", "p", "section",
    "summary", "tbody", "tfoot", "thead",
)  # fmt: skip
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
_HIDDEN = re.compile(r"display\s*:\s*none", re.I)  # the line of a mail that only its preview shows, for one


def xhtml_to_markdown(text: str) -> str:
    """The text of a document of decoded characters; empty when it has none. References to its notes become `[n]`.

    Broken markup is read as libxml2's HTML parser mends it; entities that the document declares are not expanded.
    Raises UnusableError for elements nested so deeply (2048) that the parser gives up in the middle, and for more than
    2 million tags.
    """
    import lxml.etree as etree

    if (count := text.count("<")) > _MAX_TAGS:
        raise UnusableError(f"HTML with more than {_MAX_TAGS:,} tags ({count:,})")
    text = _CDATA.sub(lambda match: match[1].replace("&", "&amp;").replace("<", "&lt;"), text)
    raw = _PROLOGUE.sub("", text, count=1).encode("utf-8", "replace")
    if not raw.strip():
        return ""
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True, no_network=True)
    try:
        tree = etree.fromstring(raw, parser)
    except (etree.LxmlError, ValueError) as error:
        raise UnusableError("no HTML that can be parsed") from error
    if parser.error_log.filter_from_fatals():  # after which the rest of the document was not read
        raise UnusableError("HTML that can be parsed in part only: too deeply nested")
    if tree is None:
        return ""
    return tree_to_markdown(tree)


def tree_to_markdown(tree: Any) -> str:
    """The text of a tree of lxml, out of which it takes what is shown to no reader."""
    import lxml.etree as etree

    etree.strip_elements(tree, *_LEFT_OUT, with_tail=False)
    converter = _Converter()
    walk = etree.iterwalk(tree, events=("start", "end"))
    for event, element in walk:
        if event == "start":
            if element.tag in _START:
                _START[element.tag](converter, element)
            if element.tag == "math" and element.get("alttext"):
                converter.add(f"${element.get('alttext')}$")
                walk.skip_subtree()
            elif _HIDDEN.search(element.get("style", "")):
                walk.skip_subtree()
            elif element.text:
                converter.add(element.text)
        else:
            if element.tag in _END:
                _END[element.tag](converter, element)
            if element.tail:
                converter.add(element.tail)
    converter.flush()
    return converter.writer.text()


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
        if self.cell is None:
            return
        if not self.rows:
            self.rows.append([])
        self.rows[-1].append(Cell(" ".join(self.cell), self.columns, self.covered_rows))
        self.cell = None


class _Converter:
    """Collects inline text until a block begins or ends, and hands it on as a block."""

    def __init__(self) -> None:
        self.writer = BlockWriter()
        self.inline: list[str] = []
        self.open: dict[str, int] = {}  # mark -> where in `inline` its content begins
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
        text = _DOUBLE_SPACES.sub(" ", "".join(self.without_permalinks(in_heading=bool(prefix))))
        self.inline.clear()
        text = _LINE_ENDS.sub("\n", text).replace(_SOFT_HYPHEN, "")
        for paragraph in (text.replace("\n", " "),) if prefix else text.split("\n\n"):
            self.emit(paragraph.strip(), prefix)

    def without_permalinks(self, in_heading: bool) -> list[str]:
        """The inline text; all of it where it is nothing else."""
        end = len(self.inline)
        while end and (isinstance(self.inline[end - 1], _Permalink) or not self.inline[end - 1].strip()):
            end -= 1
        gone = [isinstance(piece, _Permalink) and (in_heading or "¶" in piece) for piece in self.inline[:end]]
        kept = [piece for piece, is_gone in zip(self.inline, gone, strict=False) if not is_gone]
        return kept if any(map(str.strip, kept)) else self.inline

    def emit(self, text: str, prefix: str = "") -> None:
        if not text:
            return
        if self.table is not None and self.table.cell is not None:
            self.table.cell.append(text)
        else:
            self.writer.block(prefix + text)

    def taken(self, mark: str) -> str | None:
        """The content since `mark` was opened, taken out of `inline`; None when a block came between."""
        position = self.open.pop(mark, None)
        if position is None:
            return None
        content = "".join(self.inline[position:])
        del self.inline[position:]
        return content


def _start_block(converter: _Converter, element: Any) -> None:
    converter.flush()


def _end_block(converter: _Converter, element: Any) -> None:
    converter.flush()


def _start_heading(converter: _Converter, element: Any) -> None:
    converter.flush()
    converter.heading += 1


def _end_heading(converter: _Converter, element: Any) -> None:
    converter.heading -= 1
    converter.flush("#" * int(element.tag[1]) + " ")


def _start_mark(converter: _Converter, element: Any) -> None:
    mark = _MARKS[element.tag]
    if not converter.pre and not converter.heading:
        converter.open.setdefault(mark, len(converter.inline))


def _end_mark(converter: _Converter, element: Any) -> None:
    """The marks stand close to the words, or they would mean nothing in Markdown."""
    mark = _MARKS[element.tag]
    content = converter.taken(mark)
    if content is None:
        return
    words = content.strip()
    if not words or words.count("\n") > 1 or (mark == "`" and mark in words):
        converter.inline.append(content)
        return
    start = content.index(words)
    converter.inline.append(f"{content[:start]}{mark}{words}{mark}{content[start + len(words) :]}")


def _start_script(converter: _Converter, element: Any) -> None:
    converter.open.setdefault(element.tag, len(converter.inline))


def _end_script(converter: _Converter, element: Any) -> None:
    """`x<sup>2</sup>` as x², which `x2` would not be; a note's number is left to its link."""
    content = converter.taken(element.tag)
    if content is None:
        return
    script = raised if element.tag == "sup" else lowered
    parent = element.getparent()
    in_link = parent is not None and parent.tag == "a" and "#" in parent.get("href", "")
    converter.inline.append(content if in_link else script(content))


def _start_link(converter: _Converter, element: Any) -> None:
    converter.open.setdefault("a", len(converter.inline))


def _end_link(converter: _Converter, element: Any) -> None:
    content = converter.taken("a")
    if content is None:
        return
    note = _NOTE.fullmatch(content.strip()) if "#" in element.get("href", "") else None
    if note and _is_note_reference(element):
        content = f"[{note[1]}]"
    elif element.get("href", "").startswith("#") and _PERMALINK.fullmatch(content.strip()):
        content = _Permalink(content)
    converter.inline.append(content)


def _is_note_reference(element: Any) -> bool:
    """By EPUB's semantics (`epub:type`) or its successor, or because it is raised above the line."""
    kinds = f"{element.get('epub:type', '')} {element.get('role', '')}".split()
    parent = element.getparent()
    return (
        "noteref" in kinds
        or "doc-noteref" in kinds
        or (parent is not None and parent.tag == "sup")
        or element.find("sup") is not None
    )


def _line_break(converter: _Converter, element: Any) -> None:
    converter.inline.append("\n")


def _rule(converter: _Converter, element: Any) -> None:
    converter.flush()
    if not converter.pre:
        converter.emit("---")


def _start_pre(converter: _Converter, element: Any) -> None:
    converter.flush()
    converter.pre += 1


def _end_pre(converter: _Converter, element: Any) -> None:
    converter.pre -= 1
    if converter.pre:
        return
    text = "".join(converter.inline)
    converter.inline.clear()
    converter.open.clear()
    code = element.find("code")
    classes = f"{element.get('class', '')} {code.get('class', '') if code is not None else ''}"
    language = _LANGUAGE.search(classes)
    in_cell = converter.table is not None and converter.table.cell is not None
    converter.emit(text.strip() if in_cell else code_block(text, language[1] if language else ""))


def _start_quotation(converter: _Converter, element: Any) -> None:
    converter.flush()
    converter.writer.open("> ", "> ")


def _end_container(converter: _Converter, element: Any) -> None:
    converter.flush()
    converter.writer.close()


def _start_list(converter: _Converter, element: Any) -> None:
    converter.flush()
    number = None
    if element.tag == "ol":
        start = element.get("start", "1").strip()
        number = int(start) if start.isascii() and start.isdigit() and len(start) <= 9 else 1
    converter.lists.append(_List(number, nested=bool(converter.lists)))


def _end_list(converter: _Converter, element: Any) -> None:
    converter.flush()
    converter.lists.pop()


def _start_item(converter: _Converter, element: Any) -> None:
    converter.flush()
    owner = converter.lists[-1] if converter.lists else _List(None, nested=False)
    marker = "- " if owner.number is None else f"{owner.number}. "
    converter.writer.open(marker, " " * len(marker), tight=owner.nested or owner.items > 0)
    owner.items += 1
    owner.number = None if owner.number is None else owner.number + 1


def _start_table(converter: _Converter, element: Any) -> None:
    converter.flush()
    if converter.table is None and not converter.pre and _holds_data(element):
        converter.table = _Table()


def _end_table(converter: _Converter, element: Any) -> None:
    converter.flush()
    table, converter.table = converter.table, None
    if table is not None:
        converter.emit(markdown_table(table.rows))


def _start_row(converter: _Converter, element: Any) -> None:
    converter.flush()
    if converter.table is not None:
        converter.table.rows.append([])


def _start_cell(converter: _Converter, element: Any) -> None:
    converter.flush()
    table = converter.table
    if table is not None:
        table.finish_cell()  # of a cell inside of a cell, which broken markup may have
        table.cell = []
        table.columns, table.covered_rows = span_of(element.get("colspan")), span_of(element.get("rowspan"))


def _end_cell(converter: _Converter, element: Any) -> None:
    converter.flush()
    if converter.table is not None:
        converter.table.finish_cell()


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
        if part.tag == "tr":
            cells = 0
        elif part.tag != "table":
            cells += 1
            widest = max(widest, cells)
    return widest > 1


_Handler = Callable[[_Converter, Any], None]
_START: dict[str, _Handler] = (
    dict.fromkeys(_BLOCKS, _start_block)
    | dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _start_heading)
    | dict.fromkeys(_MARKS, _start_mark)
    | dict.fromkeys(("sup", "sub"), _start_script)
    | dict.fromkeys(("ul", "ol"), _start_list)
    | dict.fromkeys(("td", "th"), _start_cell)
    | {"a": _start_link, "blockquote": _start_quotation, "br": _line_break, "hr": _rule, "li": _start_item}
    | {"pre": _start_pre, "table": _start_table, "tr": _start_row}
)
_END: dict[str, _Handler] = (
    dict.fromkeys((*_BLOCKS, "tr"), _end_block)
    | dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _end_heading)
    | dict.fromkeys(_MARKS, _end_mark)
    | dict.fromkeys(("sup", "sub"), _end_script)
    | dict.fromkeys(("ul", "ol"), _end_list)
    | dict.fromkeys(("td", "th"), _end_cell)
    | dict.fromkeys(("blockquote", "li"), _end_container)
    | {"a": _end_link, "pre": _end_pre, "table": _end_table}
)
