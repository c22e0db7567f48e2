"""Excerpts of texts for a report: what was cut struck through, what was written in its place marked, two side by side.

Texts of documents may hold anything: characters that are not seen, or that turn the direction of what follows them.
Here such a character is shown by its code point, so that a page and a terminal show what is there and do nothing else.
"""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.text import Text as RichText

Change = Literal["", "removed", "added", "other", "written", "marked", "learned", "special", "learned special"]

# Controls but tab and newline, marks and overrides of direction, spaces of no width (joiners stay: Persian and emoji
# are written with them), separators that a browser takes for no line break, surrogates, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_ELEMENT = {"": "", "removed": "del", "added": "ins", "other": "s", "written": "u", "marked": "mark"}
_ELEMENT |= {"learned": 'mark class="learned"', "special": "kbd", "learned special": 'kbd class="learned"'}
_STYLE = {"removed": "red strike", "added": "green", "other": "dim strike", "written": "dim", "marked": "reverse"}
_STYLE |= {"learned": "black on green", "special": "bold magenta", "learned special": "bold magenta on green"}
_SIGNS = {"removed": "[-{}-]", "added": "{{+{}+}}", "other": "[-{}-]", "written": "{{+{}+}}", "marked": "»{}«"}
_SIGNS |= {"learned": "«{}»", "special": "⟦{}⟧", "learned special": "«⟦{}⟧»"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: as it is, `removed`, `added` in its place, or `marked` as what is meant. What another rule than
    that of the passage removed is `other`, and `written` what it added. Of what a model reads, `learned` tokens and
    `special` ones."""

    text: str
    change: Change = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """An excerpt under the `name` of its document, with a `note` that says why it is shown; another one may stand
    next to it."""

    name: str
    pieces: tuple[Piece, ...]
    note: str = ""
    beside_name: str = ""
    beside: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A change or a mark at `[start, end)` of a text. A `replacement` is shown behind it."""

    start: int
    end: int
    replacement: str = ""
    change: Change = "removed"


def visible(text: str) -> str:
    """The text with every character that is not seen written as `<U+202E>`."""
    return _HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def marked(text: str, places: Iterable[Place], start: int, end: int, most: int = 400) -> tuple[Piece, ...]:
    """`text[start:end]` in pieces, with the places in it; an ellipsis at an end where the text continues.

    Of places that overlap the later one gets what is left. Of a place that is longer than `most` characters its middle
    is left out, and counted.
    """
    start, end = max(start, 0), min(end, len(text))
    pieces = [Piece("… ")] if start > 0 else []
    position = start
    for place in sorted(places, key=lambda place: (place.start, place.end)):
        if place.end < start or place.start > end or (place.start == place.end and not place.replacement):
            continue
        low, high = max(place.start, position), min(place.end, end)
        if low > high:  # within a place that was before
            continue
        pieces.append(Piece(text[position:low]))
        changed, half = text[low:high], most // 2
        if len(changed) > most:
            changed = f"{changed[:half]} [… {len(changed) - 2 * half:,} characters …] {changed[-half:]}"
        pieces.append(Piece(changed, place.change))
        pieces.append(Piece(place.replacement, "written" if place.change == "other" else "added"))
        position = max(position, high)
    pieces.append(Piece(text[position:end]))
    if end < len(text):
        pieces.append(Piece(" …"))
    return tuple(piece for piece in pieces if piece.text)


def window(start: int, end: int, context: int, most: int) -> tuple[int, int]:
    """A place and `context` characters on both sides of it, or of its first `most` characters."""
    return max(0, start - context), min(end, start + most) + context


# ---------------------------------------------------------------------------------------------------------------------
# HTML and terminal

PASSAGE_STYLE = """
.passage { border: 1px solid var(--line); border-radius: 8px; margin: 12px 0; padding: 8px 12px; min-width: 0; }
.passage h4 { margin: 0; font-size: 14px; line-height: 20px; overflow-wrap: anywhere; }
.passage p { margin: 0; font-size: 14px; color: var(--muted); overflow-wrap: anywhere; max-width: none; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 12px; }
.text { margin: 8px 0 0; padding: 8px 12px; background: var(--wash); border-radius: 6px; font: inherit; font-size: 14px;
  line-height: 22px; white-space: pre-wrap; overflow-wrap: anywhere; overflow-y: auto; max-height: 24em; min-width: 0;
  unicode-bidi: isolate; }
.text:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
del { color: var(--removed); background: var(--removed-wash); text-decoration: line-through; }
ins { color: var(--added); background: var(--added-wash); text-decoration: none; }
s, u { color: var(--muted); }
u { text-decoration: underline dotted; }
mark { color: inherit; background: var(--marked); }
.learned { color: var(--added); background: var(--added-wash); text-decoration: underline; }
kbd { border: 1px solid var(--muted); border-radius: 4px; padding: 0 3px; font: 0.86em ui-monospace, monospace; }
"""


def passage_html(passage: Passage) -> str:
    name = f'<h4 dir="auto">{escaped(passage.name)}</h4>' if passage.name else ""
    note = f'<p dir="auto">{escaped(passage.note)}</p>' if passage.note else ""
    texts = _text_html(passage.pieces, passage.name)
    if passage.beside:
        other = f'<h4 dir="auto">{escaped(passage.beside_name)}</h4>'
        texts = f"<div>{name}{texts}</div><div>{other}{_text_html(passage.beside, passage.beside_name)}</div>"
        return f'<article class="passage">{note}<div class="texts">{texts}</div></article>'
    return f'<article class="passage">{name}{note}{texts}</article>'


def escaped(text: str) -> str:
    """Text from outside as HTML that shows it and nothing else."""
    return html.escape(visible(text))


def _text_html(pieces: Sequence[Piece], name: str) -> str:
    shown = ""
    for piece in pieces:
        element, inner = _ELEMENT[piece.change], escaped(piece.text)
        shown += f"<{element}>{inner}</{element.split()[0]}>" if element else inner
    # An empty first line of a <pre> would be swallowed, so it is a <div>; the keyboard scrolls what is long.
    return f'<div class="text" dir="auto" tabindex="0" role="group" aria-label="{escaped(name)}">{shown}</div>'


def passage_text(pieces: Iterable[Piece], *, colour: bool) -> "RichText":
    """The pieces for a terminal; without colours as [-removed-], {+added+}, »marked«."""
    from rich.text import Text

    text = Text()
    for piece in pieces:
        signs = "{}" if colour or not piece.change else _SIGNS[piece.change]
        text.append(signs.format(visible(piece.text)), _STYLE.get(piece.change, ""))
    return text
