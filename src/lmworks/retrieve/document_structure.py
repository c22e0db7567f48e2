"""The structure of a document: sections under their headings, and the blocks of each section, as ranges of its text.

Every character that is not white space belongs to exactly one block. The parser is chosen by the document's extractor,
not by what the text looks like: a docstring is never read as Markdown. Text of an extractor that is not known here is
read as plain text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmworks.records import Document

Kind = Literal["heading", "paragraph", "list", "code", "table", "grammar", "metadata"]

# Extractors that write Markdown. What others give is read as plain text, by titles, indentation and blank lines.
_MARKDOWN = frozenset({"markdown", "trafilatura", "web-page", "docx", "epub", "wikitext"})
UNITS: frozenset[Kind] = frozenset(
    {"heading", "code", "table", "grammar", "metadata"}
)  # not prose: no sentences inside


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text that belongs together: code points `[start, end)`, indentation included.

    `leads`: it is read together with the block after it (a heading, a line that ends with a colon, a defined term).
    `level` and `title` are those of a heading; the highest rank is 1. A heading with `until` covers what starts before
    that offset; any other reigns until the next one of its rank or higher.
    """

    kind: Kind
    start: int
    end: int
    leads: bool = False
    level: int = 0
    title: str = ""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """The blocks under one heading. The last `own_headings` titles of the path are written in the section itself."""

    heading_path: tuple[str, ...]
    own_headings: int
    blocks: tuple[Block, ...]


def parse(document: Document) -> list[Section]:
    """The sections of a document in order."""
    return group(_blocks(document), document.title)


def _blocks(document: Document) -> list[Block]:
    from lmworks.retrieve.markdown_blocks import markdown_blocks
    from lmworks.retrieve.plain_text_blocks import docstring_blocks, plain_blocks

    if document.extractor in _MARKDOWN:
        return markdown_blocks(document.text)
    if document.extractor == "python-docstrings":
        offsets = [int(offset) for offset in document.metadata.get("headings", "").split()]
        before = document.text[: offsets[0]] if offsets else document.text  # cleaning may have cut a first heading
        return [*plain_blocks(before), *docstring_blocks(document.text, offsets)]
    return plain_blocks(document.text)


def group(blocks: Sequence[Block], title: str = "") -> list[Section]:
    """Blocks in order into sections, each with the headings above it, `title` before them.

    A heading with nothing of its own is joined with the first section below it: alone it says nothing to be found.
    """
    sections: list[Section] = []
    above: list[Block] = []  # the headings that the current place stands under
    current: list[Block] = []

    def close() -> None:
        if current:
            own = sum(block.kind == "heading" for block in current)
            path = tuple(heading.title for heading in above)
            if title and path[:1] != (title,):
                path = (title, *path)
            sections.append(Section(path, own, tuple(current)))
            current.clear()

    for block in blocks:
        while above and above[-1].until is not None and block.start >= above[-1].until:
            close()
            above.pop()
        if block.kind == "heading":
            bare = bool(current) and all(other.kind == "heading" for other in current)
            if not bare or block.level <= current[-1].level:
                close()
            while above and above[-1].level >= block.level:
                above.pop()
            above.append(block)
        current.append(block)
    close()
    return sections


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at its ends; empty at `end` when there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def mark_leads(text: str, blocks: Sequence[Block]) -> list[Block]:
    """Set `leads` for headings, lines that end with a colon, and single lines above a deeper indented block."""
    result: list[Block] = []
    for number, block in enumerate(blocks):
        after = blocks[number + 1] if number + 1 < len(blocks) else None
        leads = after is not None and (
            block.kind == "heading"
            or (block.kind in ("paragraph", "list") and text[block.end - 1] == ":")
            or (_is_line(text, block) and _indent(text, after) > _indent(text, block))
        )
        result.append(replace(block, leads=leads))
    return result


def _is_line(text: str, block: Block) -> bool:
    return text.find("\n", block.start, block.end) == -1


def _indent(text: str, block: Block) -> int:
    """Column of the first character that is not white space."""
    start, _ = trimmed(text, block.start, block.end)
    return start - (text.rfind("\n", 0, start) + 1)
