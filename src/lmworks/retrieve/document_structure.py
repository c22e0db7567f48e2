"""The structure of a document: sections under their headings, and the blocks of each section, as ranges of its text.

Every character that is not white space belongs to exactly one block. The parser is chosen by the document's extractor,
not by what the text looks like: a docstring is never read as Markdown. Text of an extractor that is not known here is
read as plain text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.records import Document
from lmworks.retrieve.markdown_blocks import markdown_blocks
from lmworks.retrieve.plain_text_blocks import docstring_blocks, plain_blocks
from lmworks.retrieve.text_block import Block

# Extractors that write Markdown. What others give is read as plain text, by titles, indentation and blank lines.
MARKDOWN = frozenset({"markdown", "web-page", "docx", "epub", "wikitext"})


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
    if document.extractor in MARKDOWN:
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
            own_headings = sum(block.kind == "heading" for block in current)
            path = tuple(heading.title for heading in above)
            if title and path[:1] != (title,):
                path = (title, *path)
            sections.append(Section(path, own_headings, tuple(current)))
            current.clear()

    for block in blocks:
        while above and above[-1].until is not None and block.start >= above[-1].until:
            close()
            above.pop()
        if block.kind == "heading":
            bare = bool(current) and all(earlier.kind == "heading" for earlier in current)
            if not bare or block.level <= current[-1].level:
                close()
            while above and above[-1].level >= block.level:
                above.pop()
            above.append(block)
        current.append(block)
    close()
    return sections
