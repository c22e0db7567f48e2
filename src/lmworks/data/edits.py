"""Cleaning as data: a text and its edits give the cleaned text, and every place in it leads back to the source."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from lmworks.records import Edit


class OverlapError(ValueError):
    """Two edits of one text that touch the same characters; the message names both."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Characters of the cleaned text from `start` on: copied from `source_start`, or in place of the source range."""

    start: int
    source_start: int
    source_end: int
    copied: bool


@dataclass(frozen=True, slots=True)
class CleanText:
    """A cleaned text with its offset map. All offsets are code points, all ranges half-open."""

    text: str
    pieces: tuple[_Piece, ...]  # the non-empty ones, in order; they cover `text`

    def to_source(self, start: int, end: int) -> tuple[int, int]:
        """The smallest source range that covers `text[start:end]`.

        A replacement counts as a whole: a range that touches it covers all it replaced. An empty range is the source
        position of its start. Raises ValueError for a range outside the text.
        """
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(f"[{start}, {end}) does not lie in a text of {len(self.text)} characters")
        if not self.pieces:
            return 0, 0
        first = self._piece(start)
        source_start = first.source_start + (start - first.start if first.copied else 0)
        if start == end:
            return source_start, source_start
        last = self._piece(end - 1)
        return source_start, last.source_start + end - last.start if last.copied else last.source_end

    def _piece(self, offset: int) -> _Piece:
        return self.pieces[bisect_right(self.pieces, offset, key=lambda piece: piece.start) - 1]


def apply_edits(text: str, edits: Iterable[Edit]) -> CleanText:
    """Apply edits that were all written against `text`, in any order.

    Raises OverlapError when two of them overlap or insert at the same place, and ValueError for one outside the text.
    """
    parts: list[str] = []
    pieces: list[_Piece] = []
    length = position = 0

    def add(part: str, source_start: int, source_end: int, copied: bool) -> None:
        nonlocal length
        if part:
            parts.append(part)
            pieces.append(_Piece(length, source_start, source_end, copied))
            length += len(part)

    previous: Edit | None = None
    for edit in sorted(edits):
        if not 0 <= edit.start <= edit.end <= len(text):
            raise ValueError(f"{edit} does not lie in a text of {len(text)} characters")
        if previous and (edit.start < previous.end or (edit.start, edit.end) == (previous.start, previous.end)):
            raise OverlapError(f"two edits meet: {previous} and {edit}")
        add(text[position : edit.start], position, edit.start, copied=True)
        add(edit.replacement, edit.start, edit.end, copied=False)
        position, previous = edit.end, edit
    add(text[position:], position, len(text), copied=True)
    return CleanText("".join(parts), tuple(pieces))
