"""Rows of cells as a Markdown table (GitHub Flavored Markdown, section 4.10)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Empty cells that spans may add to one table: a few bytes of markup can ask for thousands each.
_MAX_ADDED_CELLS = 20_000
_MAX_SPAN = 1000  # as in the HTML standard (section 4.9.11)
_PIPES = re.compile(r"(\\*)\|")


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, and how many columns and rows it covers."""

    text: str
    columns: int = 1
    rows: int = 1


def markdown_table(rows: Iterable[Sequence[Cell]]) -> str:
    """The lines of the table, the first row as its head; empty when no cell has text.

    A cell that covers several columns or rows stands in the first of them, the others are empty. White space in cells,
    line ends too, becomes one space; a pipe is escaped. Rows shorter than the head stay so, as GFM allows.
    """
    lines = [row for row in expand_spans(rows) if any(row)]
    if not lines:
        return ""
    width = max(map(len, lines))
    head = lines[0] + [""] * (width - len(lines[0]))
    return "\n".join([_line(head), _line(["---"] * width), *map(_line, lines[1:])])


def expand_spans(rows: Iterable[Sequence[Cell]]) -> list[list[str]]:
    """The texts of the cells, each in its column, with white space collapsed."""
    spare = _MAX_ADDED_CELLS
    covered: dict[int, int] = {}  # column -> the first row that no cell from above reaches into
    expanded: list[list[str]] = []
    for number, cells in enumerate(rows):
        row: list[str] = []
        for cell in cells:
            while spare > 0 and covered.get(len(row), 0) > number:
                row.append("")
                spare -= 1
            span = min(max(cell.columns, 1), _MAX_SPAN, spare + 1)
            if cell.rows > 1:
                covered.update(dict.fromkeys(range(len(row), len(row) + span), number + min(cell.rows, _MAX_SPAN)))
            row.append(" ".join(cell.text.split()))
            row.extend([""] * (span - 1))
            spare -= span - 1
        expanded.append(row)
    return expanded


def span_of(value: str | None) -> int:
    """A number of columns or rows from an attribute; 1 when it is none."""
    return int(value) if value and len(value) <= 4 and value.isascii() and value.isdigit() else 1


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """Backslashes before a pipe are doubled, so that they do not escape the backslash that escapes the pipe."""
    return _PIPES.sub(r"\1\1\\|", text) if "|" in text else text
