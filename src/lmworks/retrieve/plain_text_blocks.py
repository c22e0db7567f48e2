"""The blocks of plain text and reStructuredText, by underlined titles, indentation and blank lines.

This is no reStructuredText parser: it finds what matters for cutting and quoting (sections, definitions, literal
blocks, lists, tables, grammars) in documents that may be valid, rendered to text (the topics of `pydoc`), or written by
hand in a docstring.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.retrieve.text_block import Block, Kind, mark_leads

_ADORNMENT = re.compile(r"([=\-~^\"'`*+#_:])\1{2,}")
_ITEM = re.compile(r"(?:[-*+•]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,5}|#)[.)])\s+\S")
_FIELD = re.compile(r":[\w][^:\n]*:(?:\s|$)|@\w+ ")
_GRAMMAR = re.compile(r"\s*[\w`*-]+\s*::=")
_GRID_TABLE = re.compile(r"\+[-=+]+\+|\|.*\|$")
_SIMPLE_TABLE = re.compile(r"[=-]+(?:\s+[=-]+)+")
_DIRECTIVE = re.compile(r"\.\.(?:\s+(?P<name>[\w:.+-]+)::|\s|$)")
_HEADER = re.compile(r"[A-Z][\w-]*:(?:\s|$)")
_SIGNATURE = re.compile(r"(?:[a-z]+ )?[A-Za-z_][\w.]*\(.*\)(?: -> .+)?|(?:class|exception|property) [\w.]+")
_BELOW_TITLES = 100  # rank of a definition: below every underlined title
_CODE_DIRECTIVES = frozenset({
    "code", "code-block", "doctest", "literalinclude", "math", "parsed-literal", "productionlist", "sourcecode",
    "testcode", "testoutput",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: its range without trailing white space, the column of its first character, and the text from there."""

    start: int
    end: int
    indent: int
    text: str


def plain_blocks(text: str) -> list[Block]:
    """Blocks of a whole text; the rank of a title follows from the order in which kinds of underline first occur."""
    return mark_leads(text, _merge_code(_scan(_lines(text, 0, len(text)), [], 0)))


def docstring_blocks(text: str, headings: Sequence[int]) -> list[Block]:
    """Blocks of a document made of docstrings; `headings` are the offsets of its headings, other `#` lines are text.

    An underlined title inside a docstring is a section below that of the docstring.
    """
    blocks: list[Block] = []
    for number, offset in enumerate(headings):
        stop = headings[number + 1] if number + 1 < len(headings) else len(text)
        end = text.find("\n", offset, stop)
        end = stop if end == -1 else end  # cleaning may have cut the end of the line
        marks = re.compile("#*").match(text, offset)
        level = len(marks[0]) if marks else 1
        blocks.append(Block("heading", offset, end, level=level, title=text[offset + level : end].strip()))
        blocks += _merge_code(_scan(_lines(text, end, stop), [], level))
    return mark_leads(text, blocks)


def _lines(text: str, start: int, end: int) -> list[_Line]:
    lines = []
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop == -1 else stop
        content = text[start:stop].rstrip()
        bare = content.lstrip()
        indent = len(content[: len(content) - len(bare)].expandtabs())
        lines.append(_Line(start, start + len(content), indent, bare))
        start = stop + 1
    return lines


def _scan(lines: list[_Line], styles: list[tuple[str, bool]], base_level: int) -> list[Block]:
    """One pass from top to bottom. A paragraph that ends with `::` announces a literal block of deeper indentation."""
    blocks: list[Block] = []
    literal_above: int | None = None  # indentation of the paragraph that announced one
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.text:
            at += 1
            continue
        if literal_above is not None and line.indent > literal_above:
            end = _indented_until(lines, at, literal_above)
            blocks.append(_block("code", lines[at:end]))
            at, literal_above = end, None
            continue
        end, kind = at, "paragraph"
        if title_lines := _title_length(lines, at):
            title = lines[at + (title_lines == 3)]
            style = (lines[at + title_lines - 1].text[0], title_lines == 3)
            if style not in styles:
                styles.append(style)
            end = at + title_lines
            level = base_level + styles.index(style) + 1
            blocks.append(Block("heading", line.start, lines[end - 1].end, level=level, title=title.text))
        elif definition := _definition(lines, at, base_level):
            blocks.append(definition)
            end = _run(lines, at)
        else:
            end, kind = _table(lines, at) or _directive(lines, at) or _paragraph(lines, at, is_first=not blocks)
            blocks.append(_block(kind, lines[at:end]))
        is_prose = kind in ("paragraph", "list") and not line.text.startswith("..")
        announces = is_prose and lines[end - 1].text.endswith("::")
        literal_above = _text_indent(lines[at:end]) if announces else None
        at = end
    return blocks


def _block(kind: Kind, lines: list[_Line]) -> Block:
    filled = [line for line in lines if line.text]
    return Block(kind, filled[0].start, filled[-1].end)


def _indented_until(lines: list[_Line], at: int, indent: int) -> int:
    """The line after the last one from `at` on that is indented deeper; blank lines in between belong to it."""
    end = at
    for number in range(at, len(lines)):
        if lines[number].text and lines[number].indent <= indent:
            break
        if lines[number].text:
            end = number + 1
    return max(end, at + 1)


def _title_length(lines: list[_Line], at: int) -> int:
    """The number of lines of the title that starts here (2, or 3 with a line above it); 0 when none starts here."""

    def adornment(number: int) -> str:
        line = lines[number] if number < len(lines) else None
        return line.text if line and not line.indent and _ADORNMENT.fullmatch(line.text) else ""

    over, under = adornment(at), adornment(at + 1)
    if over:
        below = adornment(at + 2)
        has_title = at + 1 < len(lines) and lines[at + 1].text and not under
        return 3 if has_title and below[:1] == over[0] and len(over) >= len(lines[at + 1].text) else 0
    title = lines[at]
    if not under or title.indent or (_ITEM.match(title.text) and under[0] not in "=-~^"):
        return 0
    # Shorter underlines of four characters and more are titles with a warning in docutils.
    return 2 if len(under) >= min(4, len(title.text)) and len(title.text) <= 200 else 0


def _definition(lines: list[_Line], at: int, base_level: int) -> Block | None:
    """Signatures above an indented body, as Sphinx renders them: a heading that reigns as far as the indentation."""
    end = _run(lines, at)
    signatures = lines[at:end]
    after = next((line for line in lines[end:] if line.text), None)
    if after is None or any(line.indent != lines[at].indent for line in signatures) or after.indent <= lines[at].indent:
        return None
    if not all(_SIGNATURE.fullmatch(line.text) for line in signatures):
        return None
    last = lines[_indented_until(lines, end, lines[at].indent) - 1]
    level = base_level + _BELOW_TITLES + lines[at].indent
    title = "; ".join(line.text for line in signatures)
    return Block("heading", lines[at].start, signatures[-1].end, level=level, title=title, until=last.end)


def _text_indent(lines: list[_Line]) -> int:
    """The column at which the text of a paragraph continues: after the marker in a list item of one line."""
    item = _ITEM.match(lines[0].text)
    return lines[0].indent + item.end() - 1 if item and len(lines) == 1 else lines[-1].indent


def _table(lines: list[_Line], at: int) -> tuple[int, Kind] | None:
    """A grid table ends at a blank line, a simple one at a border with a blank line after it."""
    if _GRID_TABLE.match(lines[at].text):
        return _run(lines, at), "table"
    if not _SIMPLE_TABLE.fullmatch(lines[at].text):
        return None
    for number in range(at + 1, len(lines)):
        is_last = number + 1 == len(lines) or not lines[number + 1].text
        if is_last and _SIMPLE_TABLE.fullmatch(lines[number].text):
            return number + 1, "table"
    return _run(lines, at), "table"


def _directive(lines: list[_Line], at: int) -> tuple[int, Kind] | None:
    """Explicit markup, `.. name::`. Code keeps its whole body; the body of any other is read as blocks of its own."""
    match = _DIRECTIVE.match(lines[at].text)
    if not match:
        return None
    if match["name"] in _CODE_DIRECTIVES:
        return _indented_until(lines, at + 1, lines[at].indent) if at + 1 < len(lines) else at + 1, "code"
    end = at + 1
    while end < len(lines) and lines[end].text and lines[end].indent > lines[at].indent:
        end += 1
    return end, "paragraph"


def _paragraph(lines: list[_Line], at: int, is_first: bool) -> tuple[int, Kind]:
    """Lines up to a blank one, or to a list item where a list may begin."""
    end = _run(lines, at)
    first = lines[at]
    if _GRAMMAR.match(first.text):
        return end, "grammar"
    if first.text.startswith(">>>"):
        return end, "code"
    run = [line.text for line in lines[at:end]]
    headers = sum(bool(_HEADER.match(line.text)) or line.indent > first.indent for line in lines[at:end])
    if is_first and len(run) >= 3 and headers == len(run):
        return end, "metadata"
    is_item = bool(_ITEM.match(first.text) or _FIELD.match(first.text))
    if first.indent and not is_item and looks_like_code(run):
        return end, "code"
    for number in range(at + 1, end):
        line = lines[number]
        may_begin = is_item or lines[number - 1].text.endswith(":") or line.indent != first.indent
        if may_begin and (_ITEM.match(line.text) or _FIELD.match(line.text)):
            return number, "list" if is_item else "paragraph"
    return end, "list" if is_item else "paragraph"


def _run(lines: list[_Line], at: int) -> int:
    end = at + 1
    while end < len(lines) and lines[end].text:
        end += 1
    return end


# ---------------------------------------------------------------------------------------------------------------------
# Code that nothing announces

_WORD = re.compile(r"[(\[\"'“‘*`]*[A-Za-z][A-Za-z'’-]*[)\]\"'”’*`]*[.,;:!?)]*|—|–|-|\d+[.,)]?")
_CODE_START = re.compile(
    r"(?:>>>|\.\.\.|\$|@\w|#)"
    r"|(?:def|class|import|from|async|await|return|raise|assert|del|global|nonlocal|print)\b(?! the\b)"
    r"|(?:if|elif|for|while|with|except|match|case)\b.*:$|(?:try|else|finally):$|[\w.\[\]]+ = \S"
)
PROSE_SHARE = 0.6  # of the words of a paragraph are plain words; code has fewer


def looks_like_code(lines: Sequence[str]) -> bool:
    """Whether an indented paragraph is code rather than an indented sentence, from the share of plain words in it."""
    if (_CODE_START.match(lines[0]) or lines[0][-1] in "([{\\") and not lines[-1].endswith("."):
        return True
    words = " ".join(lines).split()
    return sum(bool(_WORD.fullmatch(word)) for word in words) < PROSE_SHARE * len(words)


def _merge_code(blocks: list[Block]) -> list[Block]:
    """Code with blank lines in it was read as several blocks."""
    merged: list[Block] = []
    for block in blocks:
        if merged and block.kind == "code" and merged[-1].kind == "code":
            block = Block("code", merged.pop().start, block.end)
        merged.append(block)
    return merged
