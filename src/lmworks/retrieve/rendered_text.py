"""Text as it is shown to readers: Markdown and reStructuredText without their marks, on one line.

Only for the eye. What is stored, cited and compared is `text[start:end]` of a document.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.token import Token

from lmworks.records import Document, Span
from lmworks.retrieve.document_structure import MARKDOWN
from lmworks.retrieve.plain_text_blocks import plain_blocks

_FENCE = re.compile(r"^ {0,3}(?:`{3}|~{3})", re.M)
_REFERENCE = re.compile(r"\]\[[^\[\]\n]*\]")
_DEFINITION = re.compile(r"^ {0,3}\[([^\[\]\n]{1,200})\]:[ \t]*\S", re.M)
# Extractors that write Markdown of other formats escape nothing: none of these is a mark there.
_LITERAL = re.compile(r"(?<=\w)\*(?=\w)|[_&~<\[]|\\(?!\\*\|)")
_HIDE = {ord(sign): 0xFDD0 + index for index, sign in enumerate("*_&~<[\\")}  # as noncharacters of Unicode
_SHOW = {hidden: sign for sign, hidden in _HIDE.items()}
_REST_FORMATS = frozenset({"rest", "python-docstrings", "pydoc-topics"})  # the last two are written much like it
_REST = re.compile(  # :role:`x`, ``x``, `x <address>`_, **x**, *x*, lines under titles
    r"(?<!\w)(?::[\w+.:-]{1,40}:)?(?P<ticks>`{1,2})(?P<text>[^`]+?)(?:\s*<[^<>`]*>)?(?P=ticks)_{0,2}"
    r"|(?<![\w*])(?P<stars>\*{1,2})(?P<strong>[^\s*](?:[^*\n]*[^\s*])?)(?P=stars)(?![\w*])"
    r"|^(?P<line>[=\-~^\"'*+#])(?P=line){2,} *(?:\n|$)",
    re.M,
)


def rendered(document: Document, start: int, end: int) -> str:
    """The words of `text[start:end]` without the marks of their markup; other formats than these two as they are."""
    text = document.text
    line = text.rfind("\n", 0, start) + 1
    begin = start if text[line:start].strip() else line  # the indentation says whether it is code
    markup = text[begin:end]
    if document.extractor in _REST_FORMATS:
        return _from_rest(markup)
    if document.extractor not in MARKDOWN:
        return text[start:end]
    fenced = bisect_left(_fences(text), begin) % 2
    if document.extractor != "markdown":
        markup = _LITERAL.sub(lambda signs: signs[0].translate(_HIDE), markup)
    labels = _DEFINITION.findall(text) if _REFERENCE.search(markup) else ()
    shown = _from_markdown(f"```\n{markup}" if fenced else markup, labels).translate(_SHOW)
    return shown if shown or not re.search(r"\w", markup) else text[start:end]


def rendered_title(title: str, extractor: str) -> str:
    """A title or heading without its marks; that of a Markdown text has none."""
    return _from_rest(title) if extractor == "rest" else title


def rendered_quote(recorded: str, span: Span, documents: Mapping[str, Document]) -> str:
    """A quote on one line, rendered where its document is known and still says so, else as it was recorded."""
    document = documents.get(span.document)
    known = document is not None and document.text[span.start : span.end] == recorded
    return flowing(rendered(document, span.start, span.end) if document is not None and known else recorded)


def flowing(text: str) -> str:
    """A quote on one line, unless its lines are indented differently: code and tables stay as they are."""
    lines = text.split("\n")
    indents = {len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()}
    return text if len(indents) > 1 else " ".join(text.split())


def shortened(text: str, length: int) -> str:
    """The first words of a text, of at most `length` characters; what ends with an abbreviation loses that."""
    if len(text) <= length:
        return text
    words = text[: length + 1].rpartition(" ")[0] or text[:length]
    return re.sub(r"(?:\s+\(?[A-Z]?[a-z]{0,3}\.)+$", "", words.rstrip()).rstrip(",;:-") + " …"


def _from_rest(text: str) -> str:
    code = [(block.start, block.end) for block in plain_blocks(text) if block.kind == "code"]

    def words(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in code)
        return match[0] if inside else match["text"] or match["strong"] or ""

    return re.sub(r"(?<=\S)::(?=\s*\Z)", ":", _REST.sub(words, text))


@lru_cache(maxsize=16)  # the documents of one page
def _fences(text: str) -> list[int]:
    return [fence.start() for fence in _FENCE.finditer(text)]


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _from_markdown(text: str, labels: Sequence[str]) -> str:
    """The blocks of a Markdown text, a line for each and for each row of a table; `labels` are those of links that are
    defined elsewhere."""
    references: dict[str, Any] = {normalizeReference(label): {"href": "", "title": ""} for label in labels}
    lines: list[str] = []
    cells: list[str] = []
    marker = ""
    for token in _parser().parse(text, {"references": references}):
        if token.type == "list_item_open":
            marker = f"{token.info}{token.markup} " if token.info else "• " if lines else ""
        elif token.type == "inline":
            cells.append(_words(token.children or ()))
        elif token.type in ("fence", "code_block", "html_block"):
            lines.append(token.content.rstrip("\n"))
        elif token.type in ("paragraph_close", "heading_close", "tr_close"):
            lines.append(marker + " | ".join(cells))
            cells, marker = [], ""
    return "\n".join(lines)


def _words(inline: Sequence[Token]) -> str:
    return "".join(
        "\n" if token.type.endswith("break") else _words(token.children) if token.children else token.content
        for token in inline
    )
