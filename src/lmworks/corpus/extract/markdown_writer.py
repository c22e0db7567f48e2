"""Markdown written block by block, tables of cells, fenced code, and raised and lowered characters."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MAX_NESTING = 20  # containers further in add no prefix: a line must not grow with the depth of a hostile page
# Empty cells that spans may add to one table: a few bytes of markup can ask for thousands each.
_MAX_ADDED_CELLS = 20_000
_MAX_SPAN = 1000  # as in the HTML standard (section 4.9.11)
_PIPES = re.compile(r"(\\*)\|")
_TICKS = re.compile(r"`{3,}")
_SCRIPTS = {
    "sup": str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ"),
    "sub": str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎"),
}
_LONGEST_SCRIPT = 20


@dataclass(slots=True, eq=False)
class _Container:
    first: str  # before the first line of the container
    rest: str  # before all others
    tight: bool  # an item that follows the block before it without an empty line
    begun: bool = False


class BlockWriter:
    """Takes blocks of one or more lines, and gives the Markdown text in which they stand one after another, inside of
    list items and quotations (CommonMark 0.31, section 5)."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._containers: list[_Container] = []
        self._before: list[_Container] = []  # of the block before

    def open(self, first: str, rest: str, tight: bool = False) -> None:
        """Begin a container of what follows, up to `close`: its first line after `first`, others after `rest`."""
        self._containers.append(_Container(first, rest, tight))

    def close(self) -> None:
        """End the innermost container."""
        self._containers.pop()

    def block(self, text: str) -> None:
        """One block of some text."""
        inside = self._containers[:_MAX_NESTING]
        if self._parts:
            self._parts.append(self._gap(inside))
        first = "".join(container.rest if container.begun else container.first for container in inside)
        rest = "".join(container.rest for container in inside)
        for container in inside:
            container.begun = True
        lines = text.split("\n")
        self._parts.append(first + lines[0])
        self._parts.extend("\n" + (rest + line if line else rest.rstrip()) for line in lines[1:])
        self._before = inside

    def text(self) -> str:
        """All blocks as they were written."""
        return "".join(self._parts)

    def _gap(self, inside: list[_Container]) -> str:
        """An empty line, which continues with the containers that both blocks are in; none before a further item."""
        fresh = next((container for container in inside if not container.begun), None)
        if fresh is not None and fresh.tight:
            return "\n"
        shared = ""
        for ours, theirs in zip(inside, self._before, strict=False):
            if ours is not theirs:
                break
            shared += ours.rest
        return f"\n{shared.rstrip()}\n"


def code_block(text: str, language: str = "") -> str:
    """A fenced code block; the fence is longer than any in the text. Empty for a text without any character to see."""
    text = text.replace("\f", "\n").strip("\n")
    if not text.strip():
        return ""
    fence = "`" * max([3, *(len(run) + 1 for run in _TICKS.findall(text))])
    return f"{fence}{language}\n{text}\n{fence}"


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, and how many columns and rows it covers."""

    text: str
    columns: int = 1
    rows: int = 1


def markdown_table(rows: Iterable[Sequence[Cell]]) -> str:
    """The lines of a table, the first row as its head (GitHub Flavored Markdown, section 4.10); empty when no cell has
    text.

    A cell that covers several columns or rows stands in the first of them, the others are empty. White space in cells,
    line ends too, becomes one space; a pipe is escaped. Rows shorter than the head stay so, as GFM allows.
    """
    spare = _MAX_ADDED_CELLS
    covered: dict[int, int] = {}  # column -> the first row that no cell from above reaches into
    lines: list[list[str]] = []
    for number, cells in enumerate(rows):
        line: list[str] = []
        for cell in cells:
            while spare > 0 and covered.get(len(line), 0) > number:
                line.append("")
                spare -= 1
            span = min(max(cell.columns, 1), _MAX_SPAN, spare + 1)
            if cell.rows > 1:
                covered.update(dict.fromkeys(range(len(line), len(line) + span), number + min(cell.rows, _MAX_SPAN)))
            # Backslashes before a pipe are doubled, so that they do not escape the one that escapes the pipe.
            line += [_PIPES.sub(r"\1\1\\|", " ".join(cell.text.split()))] + [""] * (span - 1)
            spare -= span - 1
        if any(line):
            lines.append(line)
    if not lines:
        return ""
    width = max(map(len, lines))
    head = lines[0] + [""] * (width - len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * width, *lines[1:]))


def script(text: str, tag: str) -> str:
    """The characters raised (`sup`) or lowered (`sub`), x² for `x2`; as they are where Unicode lacks one."""
    table = _SCRIPTS[tag]
    known = len(text) <= _LONGEST_SCRIPT and all(ord(character) in table for character in text)
    return text.translate(table) if known else text
