"""Footnotes and the references to them, taken out, or moved to the end of the paragraph that refers to them.

A note is only what both sides agree on: a line that begins with a marker, and before it a reference with the same
marker, which no other note has. A star at the beginning of a line alone is a list, one within a line is emphasis, and
where most lines with a star have no reference, none are notes.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lmworks.data.repair.layout import HYPHENS, line_end_at, runs_on
from lmworks.records import Edit

_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_NEAR = 8000  # characters between a reference and its note at the foot of the page, for markers that are used again

_NOTE = re.compile(
    rf"""^[ \t]{{0,12}}(?:
      \[\^(?P<label>[\w-]{{1,16}})\]:
    | \[Footnote[ ]?(?P<named>[0-9A-Za-z*†‡]{{1,4}}):
    | \[(?P<bracket>[0-9]{{1,3}}|[A-Z*†‡§])\](?![(_,;)]|\.[ \t]*$)
    | (?P<superscript>[{_SUPERSCRIPT}]{{1,3}})
    | (?P<symbol>\*{{1,3}}|[†‡§¶]{{1,3}})(?![\d*])
    )[ \t]*+(?=[^\s*])(?=[^\n]*\w)""",
    re.M | re.X,
)
_REFERENCE = re.compile(
    rf"""\[\^(?P<label>[\w-]{{1,16}})\](?!:)
    | \[(?P<bracket>[0-9]{{1,3}}|[A-Z*†‡§])\](?![(:])
    | (?P<superscript>[{_SUPERSCRIPT}]++)
    | (?P<symbol>\*++|[†‡§¶]++)(?=[\s.,;:!?)\]\["'”’»—–*†‡§¶{_SUPERSCRIPT}-]|\Z)""",
    re.X,
)
_BLANK = re.compile(r"\n[ \t]*+\r?(?=\n)|\f")
_GAP = re.compile(r"(?:[ \t]*+\r?\n)*+")
_BRACKET = re.compile(r"[\[\]]")
_OPERATORS = frozenset("([{`=<>|/\\+-~^%&#@$")  # behind which a star is none of a note


@dataclass(frozen=True, slots=True)
class Footnote:
    """A note `[start, end)`, whole lines without the last newline, and the references to it, each with its space."""

    marker: str
    start: int
    end: int
    references: tuple[tuple[int, int], ...]


def starts_note(line: str) -> bool:
    """Whether a line begins as a footnote does."""
    return bool(_NOTE.match(line))


def find_footnotes(text: str, reach: int = 50_000) -> list[Footnote]:
    """The notes that have references, in order of the text. `reach`: characters from a reference to its note, at most,
    for markers in brackets; labels of Markdown (`[^name]`) reach everywhere."""
    candidates = _candidates(text)
    notes = _without_lists(candidates, text)
    if not notes:
        return []
    references = _references(text, notes, candidates)
    is_open: set[str] = set()  # markers that the latest note would have begun emphasis with, having no reference
    found: list[Footnote] = []
    taken: dict[str, int] = {}  # marker -> how many of its references are behind a note already
    for marker, start, end in notes:
        places = references.get(marker, [])
        first = last = taken.get(marker, 0)
        while last < len(places) and places[last][0] < start:
            last += 1
        taken[marker] = last
        if marker in is_open:
            first += 1  # which this one closes
            is_open.discard(marker)
        kind = marker[0]
        limit = len(text) if kind == "^" else reach if kind == "[" else min(reach, _NEAR)
        near = tuple(place for place in places[first:last] if start - place[0] <= limit)
        if len(near) == 1 or (near and kind in "^["):
            found.append(Footnote(marker, start, end, near))
        elif not near and marker.startswith("**"):
            is_open.add(marker)
    return _without_bullets(found, candidates, text)


def repair_footnotes(text: str, to: Literal["nowhere", "paragraph"] = "nowhere", reach: int = 50_000) -> list[Edit]:
    """Take footnotes out: with their references, or to the end of the paragraph that refers to them first.

    Rules: `footnote.note` and `footnote.reference`. ValueError for another `to`.
    """
    if to not in ("nowhere", "paragraph"):
        raise ValueError(f'to: footnotes go "nowhere" or to the "paragraph", not {to!r}')
    notes = find_footnotes(text, reach)
    runs = _runs(text, notes)
    if to == "paragraph":
        return _moved(text, runs)
    edits = [Edit(*place, "", "footnote.reference") for note in notes for place in note.references]
    return sorted(edits + [_removal(text, run) for run in runs])


def _candidates(text: str) -> list[tuple[str, int, int]]:
    """(marker, start, end) of all that begins as a note does, up to the next such line, empty line or form feed."""
    matches = list(_NOTE.finditer(text))
    if not matches:
        return []
    found: list[tuple[str, int, int]] = []
    named = [match.start() for match in matches if match["named"]]
    named.append(len(text))
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        limit = following.start() if following else len(text)
        if found and match.start() < found[-1][2]:
            continue  # within the brackets of a note before
        if match["named"]:
            end = _closing(text, match.start(), named[bisect_left(named, match.end())])
            if end is None:
                continue
        elif (match["bracket"] or match["superscript"]) and _is_wrapped(text, match, found):
            continue
        else:
            blank = _BLANK.search(text, match.end(), limit)
            end = blank.start() if blank else len(text[match.start() : limit].rstrip()) + match.start()
        found.append((_marker(match), match.start(), end))
    return found


def _is_wrapped(text: str, match: re.Match[str], found: Sequence[tuple[str, int, int]]) -> bool:
    """Whether a line begins with a reference, as the one before it runs on in it and is none of a note."""
    before = text[text.rfind("\n", 0, max(0, match.start() - 1)) + 1 : match.start()]
    if not runs_on(before, text[match.end() : match.end() + 1]):
        return False
    return not found or bool(text[found[-1][2] : match.start()].strip())


def _marker(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups["label"]:
        return "^" + groups["label"]
    if bracket := groups["bracket"] or groups.get("named"):
        return "[" + bracket
    if groups["superscript"]:
        return "s" + groups["superscript"]
    return "*" + groups["symbol"]


def _closing(text: str, start: int, limit: int) -> int | None:
    """Behind the bracket that closes the one at or behind `start`; None where none does, or text follows it."""
    depth = 0
    for match in _BRACKET.finditer(text, start, limit):
        depth += 1 if match[0] == "[" else -1
        if depth == 0:
            rest = text[match.end() : line_end_at(text, match.end())]
            return None if rest.strip() else match.end()
    return None


def _without_lists(notes: Sequence[tuple[str, int, int]], text: str) -> list[tuple[str, int, int]]:
    """Without items of lists and emphasis: neighbours with one symbol, and notes with another star in them."""
    listed: set[int] = set()
    for index, (before, after) in enumerate(pairwise(notes)):
        if before[0] == after[0] and before[0][0] == "*" and not text[before[2] : after[1]].strip():
            listed |= {index, index + 1}
    return [
        note
        for index, note in enumerate(notes)
        if index not in listed
        and not (note[0].startswith("**") and text.count("*", note[1], note[2]) != len(note[0]) - 1)
    ]


def _without_bullets(found: list[Footnote], candidates: Sequence[tuple[str, int, int]], text: str) -> list[Footnote]:
    """Without those whose symbol is a bullet of lists: most of its lines have no reference."""
    if not any(note.marker[0] == "*" for note in found):
        return found
    matched = Counter(note.marker for note in found)
    lines = Counter(
        marker
        for marker, start, end in candidates
        if marker[0] == "*" and text.count("*", start, end) <= len(marker) - 1  # else it is emphasis
    )
    return [note for note in found if note.marker[0] != "*" or 2 * matched[note.marker] >= lines[note.marker]]


def _references(
    text: str, notes: Sequence[tuple[str, int, int]], candidates: Sequence[tuple[str, int, int]]
) -> dict[str, list[tuple[int, int]]]:
    """Marker -> the places, in order, where it stands behind a word or a mark, outside of notes; stars also outside of
    what only begins as a note does."""
    wanted = {marker for marker, _, _ in notes}
    found: dict[str, list[tuple[int, int]]] = {}
    note_at, candidate_at = _Within(notes), _Within(candidates)
    line_end, stars = -1, 0  # of the line of the latest star
    for match in _REFERENCE.finditer(text):
        start, end = match.span()
        if (marker := _marker(match)) not in wanted or note_at(start):
            continue
        if marker.startswith("**"):
            if candidate_at(start):
                continue
            if start >= line_end:
                line_end = line_end_at(text, end)
                stars = text.count("*", text.rfind("\n", 0, start) + 1, line_end)
            if stars != end - start:
                continue  # another star in the line may pair with this one, around emphasis
        if marker[0] in "[^" and text[start - 1 : start] == " ":
            start -= 1
        before = text[start - 1 : start]
        if marker[0] == "*" and (before in _OPERATORS or _begins_line(text, start)):
            continue
        if before and not before.isspace():
            found.setdefault(marker, []).append((start, end))
    return found


def _begins_line(text: str, position: int) -> bool:
    """Whether there is nothing before a place in its line but another marker."""
    start = text.rfind("\n", max(0, position - 8), position) + 1
    before = text[start:position].strip()
    is_marker = before[:1] in ("[", *_SUPERSCRIPT) and before[-1:] in ("]", *_SUPERSCRIPT)
    return is_marker and (start > 0 or position < 8)


class _Within:
    """Whether one place after the other, from left to right, lies in one of some ranges."""

    def __init__(self, notes: Sequence[tuple[str, int, int]]) -> None:
        self._notes = notes
        self._at = 0

    def __call__(self, position: int) -> bool:
        while self._at < len(self._notes) and self._notes[self._at][2] <= position:
            self._at += 1
        return self._at < len(self._notes) and self._notes[self._at][1] <= position


def _runs(text: str, notes: Sequence[Footnote]) -> list[list[Footnote]]:
    """Notes that stand one behind the other, together."""
    runs: list[list[Footnote]] = []
    for note in notes:
        if runs and not text[runs[-1][-1].end : note.start].strip():
            runs[-1].append(note)
        else:
            runs.append([note])
    return runs


def _removal(text: str, run: Sequence[Footnote]) -> Edit:
    """Cut a run of notes with the white space around it, so that a sentence which went on behind it goes on."""
    start, stop = _rstrip(text, 0, run[0].start), _behind_gap(text, run[-1].end)
    if not start or text[start - 1] == "\f":
        joint = ""
    elif stop == len(text):
        joint = "\n" if text.endswith("\n") else ""
    elif text[stop] == "\f" or _goes_on(text, start, stop):
        joint = "\n"
    else:
        joint = "\n\n"
    return Edit(start, stop, joint, "footnote.note")


def _rstrip(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1] in " \t\r\n":
        end -= 1
    return end


def _behind_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position


def _goes_on(text: str, before: int, after: int) -> bool:
    """Whether the line that ends at `before` goes on, or its last word does, in the one that begins at `after`."""
    line = text[text.rfind("\n", 0, before) + 1 : before]
    following = text[after : line_end_at(text, after)]
    return runs_on(line, following) or (line[-1:] in HYPHENS and following.lstrip()[:1].islower())


def _moved(text: str, runs: Sequence[Sequence[Footnote]]) -> list[Edit]:
    behind: dict[int, str] = {}  # where -> the notes that go there
    edits: list[Edit] = []
    for run in runs:
        places = [_paragraph_end(text, note.references[0][1], runs) for note in run]
        if all(place <= run[0].start and not text[place : run[0].start].strip() for place in places):
            continue  # it stands behind its paragraph
        edits.append(_removal(text, run))
        for note, place in zip(run, places, strict=True):
            behind[place] = behind.get(place, "") + "\n\n" + text[note.start : note.end].strip()
    for at, edit in enumerate(edits):
        if added := behind.pop(edit.start, ""):  # the paragraph ends where a run of notes is cut
            edits[at] = Edit(edit.start, edit.end, added + edit.replacement, edit.rule)
    return sorted(edits + [Edit(place, place, added, "footnote.note") for place, added in behind.items()])


def _paragraph_end(text: str, position: int, runs: Sequence[Sequence[Footnote]]) -> int:
    """Behind the last character of the paragraph at a position, which may go on behind a run of notes."""
    while True:
        at = bisect_left(runs, position, key=lambda run: run[0].start)
        limit = runs[at][0].start if at < len(runs) else len(text)
        blank = _BLANK.search(text, position, limit)
        end = _rstrip(text, position, blank.start() if blank else limit)
        if at == len(runs) or (blank and _behind_gap(text, blank.start()) < limit):
            return end
        after = _behind_gap(text, runs[at][-1].end)
        if not _goes_on(text, end, after):
            return end
        position = after
