"""Cleaning as data: a text and its edits give the cleaned text, and every place in it leads back to the source."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lmworks.records import Edit


class _Piece(NamedTuple):
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

    def from_source(self, offset: int) -> int | None:
        """Where the character at `offset` of the source stands in `text`; None where it was replaced or taken out."""
        at = bisect_right(self.pieces, offset, key=lambda piece: piece.source_start) - 1
        if at < 0 or not self.pieces[at].copied or offset >= self.pieces[at].source_end:
            return None
        return self.pieces[at].start + offset - self.pieces[at].source_start

    def _piece(self, offset: int) -> _Piece:
        return self.pieces[bisect_right(self.pieces, offset, key=lambda piece: piece.start) - 1]


def apply_edits(text: str, edits: Iterable[Edit]) -> CleanText:
    """Apply edits that were all written against `text`, in any order.

    Raises ValueError when two of them overlap or insert at the same place, and for one outside the text.
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
            raise ValueError(f"two edits meet: {previous} and {edit}")
        add(text[position : edit.start], position, edit.start, copied=True)
        add(edit.replacement, edit.start, edit.end, copied=False)
        position, previous = edit.end, edit
    add(text[position:], position, len(text), copied=True)
    return CleanText("".join(parts), tuple(pieces))


def compose(text: str, first: Iterable[Edit], second: Iterable[Edit]) -> list[Edit]:
    """The edits of `text` that do what `first` and then `second` do, where `second` was written against the text that
    `first` gives; in order.

    Edits that meet become one, with the rules of both joined by "+"; the others stay as they are. What is undone is
    left out. Raises what `apply_edits` raises.
    """
    first, second = sorted(first), sorted(second)
    cleaned = apply_edits(text, first).text
    apply_edits(cleaned, second)  # raises what is wrong with it
    starts, ends, shifts = [], [], [0]  # of the replacements in the cleaned text; before each, from there to the source
    for edit in first:
        starts.append(edit.start - shifts[-1])
        ends.append(starts[-1] + len(edit.replacement))
        shifts.append(edit.end - ends[-1])
    groups: list[tuple[int, int, list[Edit]]] = []  # edits of `first`, from one to before another, and of `second`
    for edit in second:
        # It meets a replacement that it overlaps, a cut within it, and, if it inserts, whatever it touches.
        inserts = edit.start == edit.end
        low = bisect_left(ends, edit.start) if inserts else bisect_right(ends, edit.start)
        high = max(low, bisect_right(starts, edit.end) if inserts else bisect_left(starts, edit.end))
        if groups and low < groups[-1][1]:  # both meet one edit
            low, before, edits = groups.pop()
            edits.append(edit)
            groups.append((low, max(before, high), edits))
        else:
            groups.append((low, high, [edit]))
    composed: list[Edit] = []
    done = 0
    for low, high, edits in groups:
        start = min([edits[0].start, *starts[low:high]])
        end = max([edits[-1].end, *ends[low:high]])
        within = [Edit(edit.start - start, edit.end - start, edit.replacement, edit.rule) for edit in edits]
        rules = [rule for edit in (*first[low:high], *edits) for rule in edit.rule.split("+")]
        replacement = apply_edits(cleaned[start:end], within).text
        composed += first[done:low]
        composed.append(Edit(start + shifts[low], end + shifts[high], replacement, "+".join(dict.fromkeys(rules))))
        done = high
    composed += first[done:]
    return sorted(edit for edit in composed if text[edit.start : edit.end] != edit.replacement)
