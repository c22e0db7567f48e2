"""The blocks of a Markdown text (CommonMark with tables), by the line numbers that markdown-it-py gives its tokens."""

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lmworks.retrieve.text_block import Block, Kind, mark_leads

# Settings between two lines of dashes at the very start; CommonMark would take them for a rule and a heading.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?:[^\n]*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")

_LEAVES: dict[str, Kind] = {
    "paragraph_open": "paragraph",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "html_block": "paragraph",
}


def markdown_blocks(text: str) -> list[Block]:
    """Blocks in order; list items and quotations give one block for each paragraph, fence or table in them."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]  # offset of each line
    leaves: list[tuple[int, int, Kind, int, str]] = []  # first line, line after the last, kind, level, title
    first = 0
    if matter := _FRONT_MATTER.match(text):
        first = matter[0].count("\n") or len(starts)
        leaves.append((0, first, "metadata", 0, ""))
    # A lone carriage return would be a line of its own to the parser; here only "\n" ends a line.
    body = text[matter.end() if matter else 0 :].replace("\r", " ")
    tokens = MarkdownIt("commonmark").enable("table").parse("\n" * first + body)
    for begin, end, kind, level, title in _leaves(tokens):
        begin = max(begin, leaves[-1][1] if leaves else 0)
        if begin < end:
            leaves.append((begin, end, kind, level, title))
    blocks: list[Block] = []
    line = 0
    for begin, end, kind, level, title in [*leaves, (len(starts), len(starts), "paragraph", 0, "")]:
        blocks += _gap(text, starts, line, begin)
        blocks += _block(text, starts, begin, end, kind, level, title)
        line = end
    return mark_leads(text, blocks)


def _leaves(tokens: list[Token]) -> list[tuple[int, int, Kind, int, str]]:
    """Line ranges of the innermost blocks; a heading inside a list or quotation is a paragraph."""
    leaves: list[tuple[int, int, Kind, int, str]] = []
    lists = 0
    for number, token in enumerate(tokens):
        if token.type in ("bullet_list_open", "ordered_list_open"):
            lists += 1
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            lists -= 1
        if token.map is None:
            continue
        begin, end = token.map
        if token.type == "heading_open":
            is_section = token.level == 0
            words = "".join(child.content or " " for child in tokens[number + 1].children or ())
            title = " ".join(words.split()) if is_section else ""
            leaves.append(
                (begin, end, "heading" if is_section else "paragraph", int(token.tag[1:]) * is_section, title)
            )
        elif token.type in _LEAVES:
            kind = _LEAVES[token.type]
            leaves.append((begin, end, "list" if kind == "paragraph" and lists else kind, 0, ""))
    return leaves


def _gap(text: str, starts: list[int], begin: int, end: int) -> list[Block]:
    """Lines that no token covers (rules, link definitions, empty items): a block for each run without a blank line."""
    blocks: list[Block] = []
    run = begin
    for line in range(begin, end + 1):
        if line == end or not _line(text, starts, line).strip():
            blocks += _block(text, starts, run, line, "paragraph", 0, "")
            run = line + 1
    return blocks


def _block(text: str, starts: list[int], begin: int, end: int, kind: Kind, level: int, title: str) -> list[Block]:
    """The block of a range of lines, without blank lines around it; nothing when it holds white space only."""
    while begin < end and not _line(text, starts, begin).strip():
        begin += 1
    while end > begin and not _line(text, starts, end - 1).strip():
        end -= 1
    if begin == end:
        return []
    stop = starts[end - 1] + len(_line(text, starts, end - 1).rstrip())
    return [Block(kind, starts[begin], stop, level=level, title=title)]


def _line(text: str, starts: list[int], line: int) -> str:
    return text[starts[line] : starts[line + 1] if line + 1 < len(starts) else len(text)]
