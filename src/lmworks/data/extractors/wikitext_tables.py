"""Tables of MediaWiki, line by line."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from lmworks.data.extractors.markdown_writer import Cell, markdown_table, span_of

_COLUMNS = re.compile(r"\bcolspan\s{0,5}=\s{0,5}[\"']?\s{0,5}(\d{1,4})", re.I)
_ROWS = re.compile(r"\browspan\s{0,5}=\s{0,5}[\"']?\s{0,5}(\d{1,4})", re.I)
# Classes of tables that help to find one's way or to keep the wiki: no part of the article.
_APPARATUS = re.compile(r"\b(?:navbox|metadata|ambox|mbox|noprint)\b")


@dataclass(slots=True)
class _OpenCell:
    columns: int
    rows: int
    pieces: list[str] = field(default_factory=list)


class TableReader:
    """Takes the lines after `{|` up to the one with `|}`. `finish` makes the inline markup of a text readable.

    A table inside of a cell becomes text of this cell.
    """

    def __init__(self, opening: str, finish: Callable[[str], str]) -> None:
        self._finish = finish
        self._left_out = _APPARATUS.search(opening) is not None
        self._rows: list[list[_OpenCell]] = []
        self._outside: list[str] = []  # the caption, and text before the first cell
        self._caption = False
        self._inner = 0  # open tables inside

    def take(self, line: str) -> str | None:
        """Reads a line; at the end of the table, what stands behind it, else None."""
        line = line.strip()
        if line.startswith("{|"):
            self._inner += 1
        elif line.startswith("|}"):
            if not self._inner:
                return line[2:]
            self._inner -= 1
        elif line.startswith("|-"):
            if not self._inner:
                self._rows.append([])
        elif line.startswith("|+"):
            self._caption = not self._inner
            self._append(_content(line[2:]))
        elif line.startswith("|"):
            self._cells(line[1:].split("||"))
        elif line.startswith("!"):
            self._cells(line[1:].replace("!!", "||").split("||"))
        elif line:
            self._append(line.lstrip("*#:; "))
        return None

    def blocks(self) -> list[str]:
        """The caption and the table; of one with a single column, which is layout, the texts of its cells."""
        if self._left_out:
            return []
        rows = [[Cell(self._text(cell.pieces), cell.columns, cell.rows) for cell in row] for row in self._rows]
        outside = self._text(self._outside)
        widest = max((sum(max(cell.columns, 1) for cell in row) for row in rows), default=0)
        body = [markdown_table(rows)] if widest > 1 else [cell.text for row in rows for cell in row]
        return [block for block in (outside, *body) if block]

    def _cells(self, cells: list[str]) -> None:
        for cell in cells:
            if self._inner:
                self._append(_content(cell))
                continue
            attributes, text = _divide(cell)
            if not self._rows:
                self._rows.append([])
            self._caption = False
            self._rows[-1].append(_OpenCell(_span(_COLUMNS, attributes), _span(_ROWS, attributes), [text]))

    def _append(self, text: str) -> None:
        """Adds to the open cell, or to the caption."""
        last = next((row[-1] for row in reversed(self._rows[-2:]) if row), None)
        (self._outside if self._caption or last is None else last.pieces).append(text)

    def _text(self, pieces: list[str]) -> str:
        return " ".join(self._finish(" ".join(pieces)).split())


def _divide(cell: str) -> tuple[str, str]:
    """Attributes and content: what is before the first pipe are attributes."""
    before, pipe, after = cell.partition("|")
    return (before, after) if pipe else ("", cell)


def _content(cell: str) -> str:
    return _divide(cell)[1]


def _span(pattern: re.Pattern[str], attributes: str) -> int:
    found = pattern.search(attributes) if attributes else None
    return span_of(found[1] if found else None)
