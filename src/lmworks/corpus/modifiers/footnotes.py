"""Footnotes and the references to them, taken out.

A note is only what both sides agree on: a line that begins with a marker, and before it a reference with the same
marker, which no other note has. A star at the beginning of a line alone is a list, one within a line is emphasis, and
where most lines with a star have no reference, none are notes.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lmworks.corpus.modifiers.text_lines import HYPHENS, line_end_at, runs_on
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_REACH = 50_000  # characters from a reference in brackets to its note; labels of Markdown (`[^name]`) reach everywhere
_NEAR = 8000  # characters between a reference and its note at the foot of the page, for markers that are used again

PATTERNS = read_patterns(__file__, superscript=_SUPERSCRIPT)
_OPERATORS = frozenset("([{`=<>|/\\+-~^%&#@$")  # behind which a star is none of a note


class Footnote(NamedTuple):
    """A note `[start, end)`, whole lines without the last newline, and the references to it, each with its space."""

    marker: str  # and before it a letter for its kind
    start: int
    end: int
    references: tuple[tuple[int, int], ...] = ()


def starts_note(line: str) -> bool:
    """Whether a line begins as a footnote does."""
    return bool(PATTERNS["note"].match(line))


def repair_footnotes(text: str) -> list[Edit]:
    """Take footnotes out, with their references. Rules: `footnote.note` and `footnote.reference`."""
    notes = find_footnotes(text)
    edits = [Edit(*place, "", "footnote.reference") for note in notes for place in note.references]
    runs: list[tuple[int, int]] = []  # of notes that stand one behind the other
    for note in notes:
        if runs and not text[runs[-1][1] : note.start].strip():
            runs[-1] = runs[-1][0], note.end
        else:
            runs.append((note.start, note.end))
    return sorted([*edits, *(_removal(text, start, end) for start, end in runs)])


def find_footnotes(text: str) -> list[Footnote]:
    """The notes that have references, in order of the text."""
    candidates = _candidates(text)
    notes = _without_lists(candidates, text)
    references = _references(text, notes, candidates) if notes else {}
    found: list[Footnote] = []
    taken = Counter[str]()  # of a marker's references those behind a note already
    for marker, start, end, _ in notes:
        places = references.get(marker, [])
        first = taken[marker]
        while taken[marker] < len(places) and places[taken[marker]][0] < start:
            taken[marker] += 1
        limit = {"^": len(text), "[": _REACH}.get(marker[0], _NEAR)
        near = tuple(place for place in places[first : taken[marker]] if start - place[0] <= limit)
        if len(near) == 1 or (near and marker[0] in "^["):
            found.append(Footnote(marker, start, end, near))
    # Without those whose symbol is a bullet of lists: most of its lines, but for those in emphasis, have no reference.
    matched = Counter(note.marker for note in found)
    lines = Counter(note.marker for note in candidates if text.count("*", *note[1:3]) <= len(note.marker) - 1)
    return [note for note in found if note.marker[0] != "*" or 2 * matched[note.marker] >= lines[note.marker]]


def _marker(match: re.Match[str]) -> str:
    """A letter for the kind of marker, and the marker."""
    kinds = (("^", "label"), ("[", "bracket"), ("[", "named"), ("s", "superscript"), ("*", "symbol"))
    groups = match.groupdict()
    return next(kind + groups[name] for kind, name in kinds if groups.get(name))


def _candidates(text: str) -> list[Footnote]:
    """Places that begin as a note does, up to the next such line, empty line or form feed."""
    matches = list(PATTERNS["note"].finditer(text))
    found: list[Footnote] = []
    named = [*(match.start() for match in matches if match["named"]), len(text)]
    limits = [*(match.start() for match in matches[1:]), len(text)]
    for match, limit in zip(matches, limits, strict=False):
        start = match.start()
        if found and start < found[-1].end:
            continue  # within the brackets of a note before
        if match["named"]:
            end = _closing(text, start, named[bisect_left(named, match.end())])
            if end is None:
                continue
        else:
            before = text[text.rfind("\n", 0, max(0, start - 1)) + 1 : start]
            follows_note = bool(found) and not text[found[-1].end : start].strip()
            is_wrapped = not follows_note and runs_on(before, text[match.end() : match.end() + 1])
            if is_wrapped and (match["bracket"] or match["superscript"]):
                continue  # the line begins with a reference, as the one before it runs on in it
            blank = PATTERNS["blank"].search(text, match.end(), limit)
            end = blank.start() if blank else start + len(text[start:limit].rstrip())
        found.append(Footnote(_marker(match), start, end))
    return found


def _closing(text: str, start: int, limit: int) -> int | None:
    """The end of the bracket that closes the one at or behind `start`; None where none does, or text follows it."""
    depth = 0
    for match in PATTERNS["bracket"].finditer(text, start, limit):
        depth += 1 if match[0] == "[" else -1
        if depth == 0:
            return None if text[match.end() : line_end_at(text, match.end())].strip() else match.end()
    return None


def _without_lists(notes: Sequence[Footnote], text: str) -> list[Footnote]:
    """The notes without items of lists (neighbours with one symbol) and emphasis (another star in the note)."""
    listed: set[int] = set()
    for index, (before, after) in enumerate(pairwise(notes)):
        if before.marker == after.marker and before.marker[0] == "*" and not text[before.end : after.start].strip():
            listed |= {index, index + 1}
    return [
        note
        for index, note in enumerate(notes)
        if index not in listed
        and not (note.marker.startswith("**") and text.count("*", note.start, note.end) != len(note.marker) - 1)
    ]


def _references(
    text: str, notes: Sequence[Footnote], candidates: Sequence[Footnote]
) -> dict[str, list[tuple[int, int]]]:
    """Marker -> the places, in order, where it stands behind a word or a mark, outside of notes; stars also outside of
    what only begins as a note does."""
    wanted = {note.marker for note in notes}
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    line_end, stars = -1, 0  # of the line of the latest star
    for match in PATTERNS["reference"].finditer(text):
        start, end = match.span()
        if (marker := _marker(match)) not in wanted or _within(notes, start):
            continue
        if marker.startswith("**"):
            if _within(candidates, start):
                continue
            if start >= line_end:
                line_end = line_end_at(text, end)
                stars = text.count("*", text.rfind("\n", 0, start) + 1, line_end)
            if stars != end - start:
                continue  # another star in the line may pair with this one, around emphasis
        if marker[0] in "[^" and text[start - 1 : start] == " ":
            start -= 1
        before = text[start - 1 : start]
        if marker[0] == "*":
            line_start = text.rfind("\n", max(0, start - 8), start) + 1
            in_line = text[line_start:start].strip()
            is_marker = in_line[:1] in ("[", *_SUPERSCRIPT) and in_line[-1:] in ("]", *_SUPERSCRIPT)
            if before in _OPERATORS or (is_marker and (line_start > 0 or start < 8)):  # a marker alone begins the line
                continue
        if before and not before.isspace():
            found[marker].append((start, end))
    return found


def _within(notes: Sequence[Footnote], position: int) -> bool:
    at = bisect_right(notes, position, key=lambda note: note.start) - 1
    return at >= 0 and position < notes[at].end


def _removal(text: str, start: int, end: int) -> Edit:
    """Cut a run of notes with the white space around it, so that a sentence which went on behind it continues."""
    while start and text[start - 1] in " \t\r\n":
        start -= 1
    gap = PATTERNS["gap"].match(text, end)
    stop = gap.end() if gap else end
    line = text[text.rfind("\n", 0, start) + 1 : start]
    following = text[stop : line_end_at(text, stop)]
    if not start or text[start - 1] == "\f":
        joint = ""
    elif stop == len(text):
        joint = "\n" if text.endswith("\n") else ""
    elif text[stop] == "\f" or runs_on(line, following) or (line[-1:] in HYPHENS and following.lstrip()[:1].islower()):
        joint = "\n"
    else:
        joint = "\n\n"
    return Edit(start, stop, joint, "footnote.note")
