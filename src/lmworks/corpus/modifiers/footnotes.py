"""Footnotes and the references to them, taken out.

A note is only what both sides agree on: a line that begins with a marker, and before it a reference with the same
marker, which no other note has. A star at the beginning of a line alone is a list, one within a line is emphasis, and
where most lines with a star have no reference, none are notes.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmworks.corpus.modifiers.page_layout import HYPHENS, line_end_at, runs_on
from lmworks.records import Edit

_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_REACH = 50_000  # characters from a reference in brackets to its note; labels of Markdown (`[^name]`) reach everywhere
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


def find_footnotes(text: str) -> list[Footnote]:
    """The notes that have references, in order of the text."""
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
        limit = {"^": len(text), "[": _REACH}.get(kind, _NEAR)
        near = tuple(place for place in places[first:last] if start - place[0] <= limit)
        if len(near) == 1 or (near and kind in "^["):
            found.append(Footnote(marker, start, end, near))
        elif not near and marker.startswith("**"):
            is_open.add(marker)
    return _without_bullets(found, candidates, text)


def repair_footnotes(text: str) -> list[Edit]:
    """Take footnotes out, with their references. Rules: `footnote.note` and `footnote.reference`."""
    edits: list[Edit] = []
    run: list[Footnote] = []  # notes that stand one behind the other
    for note in find_footnotes(text):
        edits += [Edit(*place, "", "footnote.reference") for place in note.references]
        if run and text[run[-1].end : note.start].strip():
            edits.append(_removal(text, run))
            run = []
        run.append(note)
    return sorted([*edits, _removal(text, run)]) if run else []


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
    """A letter for the kind of marker, and the marker."""
    kinds = (("^", "label"), ("[", "bracket"), ("[", "named"), ("s", "superscript"), ("*", "symbol"))
    groups = match.groupdict()
    return next(kind + groups[name] for kind, name in kinds if groups.get(name))


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
    line_end, stars = -1, 0  # of the line of the latest star
    for match in _REFERENCE.finditer(text):
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


def _within(notes: Sequence[tuple[str, int, int]], position: int) -> bool:
    at = bisect_right(notes, position, key=lambda note: note[1]) - 1
    return at >= 0 and position < notes[at][2]


def _removal(text: str, run: Sequence[Footnote]) -> Edit:
    """Cut a run of notes with the white space around it, so that a sentence which went on behind it goes on."""
    start = run[0].start
    while start and text[start - 1] in " \t\r\n":
        start -= 1
    gap = _GAP.match(text, run[-1].end)
    stop = gap.end() if gap else run[-1].end
    if not start or text[start - 1] == "\f":
        joint = ""
    elif stop == len(text):
        joint = "\n" if text.endswith("\n") else ""
    elif text[stop] == "\f" or _goes_on(text, start, stop):
        joint = "\n"
    else:
        joint = "\n\n"
    return Edit(start, stop, joint, "footnote.note")


def _goes_on(text: str, before: int, after: int) -> bool:
    """Whether the line that ends at `before` goes on, or its last word does, in the one that begins at `after`."""
    line = text[text.rfind("\n", 0, before) + 1 : before]
    following = text[after : line_end_at(text, after)]
    return runs_on(line, following) or (line[-1:] in HYPHENS and following.lstrip()[:1].islower())
