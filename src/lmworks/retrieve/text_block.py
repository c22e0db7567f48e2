"""A block of a document: a heading, a paragraph, a list, code or a table, as a range of its text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmworks.tokenizer.sentence_splitter import trimmed

Kind = Literal["heading", "paragraph", "list", "code", "table", "grammar", "metadata", "instruction"]

# No sentences inside.
UNITS: frozenset[Kind] = frozenset({"heading", "code", "table", "grammar", "metadata", "instruction"})


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


def mark_leads(text: str, blocks: Sequence[Block]) -> list[Block]:
    """Set `leads` for headings, lines that end with a colon, and single lines above a deeper indented block."""
    result: list[Block] = []
    for number, block in enumerate(blocks):
        after = blocks[number + 1] if number + 1 < len(blocks) else None
        leads = after is not None and (
            block.kind == "heading"
            or (block.kind in ("paragraph", "list") and text[block.end - 1] == ":")
            or (text.find("\n", block.start, block.end) == -1 and _indent(text, after) > _indent(text, block))
        )
        result.append(replace(block, leads=leads))
    return result


def _indent(text: str, block: Block) -> int:
    """Column of the first character that is not white space."""
    start, _ = trimmed(text, block.start, block.end)
    return start - (text.rfind("\n", 0, start) + 1)
