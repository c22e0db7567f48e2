"""Noise of print and of scanners, planted on a text, with the places where it was planted; and texts to plant it on."""

import gzip
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from lmworks.corpus.edits import apply_edits
from lmworks.corpus.modifiers.ocr import CONFUSIONS
from lmworks.records import Edit
from published_data import DATA

BOOKS = DATA / "classic-books"


@dataclass(frozen=True, slots=True)
class Planted:
    """A text with noise; `spans` are the ranges of the noise in it."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Misread:
    """A word of a text with noise, and what was printed."""

    start: int
    end: int
    printed: str


# ---------------------------------------------------------------------------------------------------------------------
# Texts


@cache
def book(name: str, length: int | None = None) -> str:
    """The beginning of one of the shared books, with newlines where it has carriage returns before them."""
    return raw_book(name).replace("\r\n", "\n")[:length]


@cache
def raw_book(name: str) -> str:
    return gzip.decompress((BOOKS / f"{name}.md.gz").read_bytes()).decode()


def book_names() -> list[str]:
    return sorted(path.name.removesuffix(".md.gz") for path in BOOKS.glob("*.md.gz"))


@cache
def made_prose(paragraphs: int = 120, seed: int = 0) -> str:
    """Paragraphs of sentences of made-up words, some of which are frequent, as in a language."""
    generator = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "el", "in", "or")]
    words = ["".join(generator.choices(syllables, k=generator.choice((1, 2, 2, 3, 3, 4)))) for _ in range(800)]
    weights = [1 / (rank + 1) for rank in range(len(words))]

    def sentence() -> str:
        chosen = generator.choices(words, weights, k=generator.randint(6, 24))
        return " ".join(chosen).capitalize() + generator.choice((".", ".", ".", "!", "?"))

    return "\n\n".join(" ".join(sentence() for _ in range(generator.randint(2, 9))) for _ in range(paragraphs)) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def wrapped(text: str, width: int = 72, hyphenate: float = 0.0, seed: int = 0) -> tuple[str, int]:
    """The paragraphs of a text in lines of a width, and how many words were broken: a word that does not fit is, with
    the probability `hyphenate`."""
    generator = random.Random(seed)
    breaks = 0
    paragraphs: list[str] = []
    for paragraph in text.split("\n\n"):
        lines: list[str] = []
        line = ""
        for word in paragraph.split():
            room = width - len(line) - 1
            if not line:
                line = word
            elif len(word) <= room:
                line += " " + word
            elif word.isalpha() and len(word) >= 6 and room >= 4 and generator.random() < hyphenate:
                at = generator.randint(2, min(room - 1, len(word) - 2))
                lines.append(f"{line} {word[:at]}-")
                line = word[at:]
                breaks += 1
            else:
                lines.append(line)
                line = word
        if line:
            lines.append(line)
        if lines:
            paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n", breaks


def _planted(parts: Iterable[tuple[str, bool]]) -> Planted:
    """Parts of a text, and which of them are noise."""
    parts = list(parts)
    ends = list(accumulate(len(part) for part, _ in parts))
    spans = tuple((end - len(part), end) for (part, is_noise), end in zip(parts, ends, strict=True) if is_noise)
    return Planted("".join(part for part, _ in parts), spans)


def paged(
    text: str,
    lines: int = 36,
    number: str = "{}",
    heads: Sequence[str] = (),
    form_feeds: bool = True,
    first: int = 1,
    numeral: Callable[[int], str] = str,
) -> Planted:
    """A text in pages of so many lines, each with the next of `heads` above it, which may hold the number as "{}", and
    with the number below it, in the form of `number`; "" for none."""
    body = text.rstrip("\n").split("\n")
    parts: list[tuple[str, bool]] = []
    for page, start in enumerate(range(0, len(body), lines)):
        if page:
            parts.append(("\n\f" if form_feeds else "\n", False))
        if heads:
            parts += [(heads[page % len(heads)].format(numeral(first + page)), True), ("\n\n", False)]
        parts.append(("\n".join(body[start : start + lines]), False))
        if number:
            parts += [("\n\n", False), (number.format(numeral(first + page)), True)]
    return _planted([*parts, ("\n", False)])


def misread(text: str, share: float, seed: int = 0) -> tuple[str, list[Misread]]:
    """A text in which this share of the words of four letters and more has one confusion of OCR."""
    generator = random.Random(seed)
    readings: dict[str, list[str]] = {}
    for read, all_printed in CONFUSIONS.items():
        for printed, log_weight in all_printed:
            if log_weight > -7:  # those that are not seldom
                readings.setdefault(printed, []).append(read)
    parts: list[str] = []
    planted: list[Misread] = []
    length = 0
    for position, word in enumerate(text.split(" ")):
        if position:
            parts.append(" ")
            length += 1
        core = word.strip(".,;:!?\n\"'")
        if len(core) >= 4 and core.isalpha() and generator.random() < share:
            places = [(at, printed) for printed in readings for at in range(len(core)) if core.startswith(printed, at)]
            if places:
                at, printed = generator.choice(places)
                read = core[:at] + generator.choice(readings[printed]) + core[at + len(printed) :]
                start = length + word.index(core)
                planted.append(Misread(start, start + len(read), core))
                word = word.replace(core, read, 1)
        parts.append(word)
        length += len(word)
    return "".join(parts), planted


def with_repeated_pages(text: str, lines: int = 30, every: int = 7) -> Planted:
    """A wrapped text in which every seventh piece of so many lines stands twice; the spans are of the second ones."""
    body = text.rstrip("\n").split("\n")
    pieces = ["\n".join(body[start : start + lines]) + "\n" for start in range(0, len(body), lines)]
    copies = [1 + (number % every == every - 1) for number in range(len(pieces))]
    return _planted((piece, copy == 1) for piece, of in zip(pieces, copies, strict=True) for copy in range(of))


def with_footnotes(text: str, marker: str = "[{}]", every: int = 5) -> Planted:
    """A text in which every fifth paragraph of some words has a reference in it and its note behind it."""
    parts: list[tuple[str, bool]] = []
    count = 0
    for number, paragraph in enumerate(text.split("\n\n")):
        parts.append(("\n\n" if number else "", False))
        words = paragraph.split(" ")
        if number % every != every - 1 or len(words) < 8 or not paragraph[:1].isalpha():
            parts.append((paragraph, False))
            continue
        count += 1
        mark = marker.format(count)
        parts += [(" ".join(words[:5]), False), (mark, True), (" " + " ".join(words[5:]).rstrip("\n"), False)]
        parts += [("\n\n", False), (f"{mark} See the note of the editor. Number {count}.", True)]
    return _planted(parts)


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def covered(text: str, edits: Iterable[Edit]) -> list[bool]:
    """Of each character, whether an edit replaces it."""
    covers = [False] * len(text)
    for edit in edits:
        covers[edit.start : edit.end] = [True] * (edit.end - edit.start)
    return covers


def recall_and_precision(planted: Planted, edits: Sequence[Edit]) -> tuple[float, float]:
    """The share of planted spans of which all but white space is replaced; and the share that planted spans have of all
    characters but white space that are replaced."""
    covers = covered(planted.text, edits)
    solid = [not character.isspace() for character in planted.text]
    within = [False] * len(planted.text)
    found = 0
    for start, end in planted.spans:
        within[start:end] = [True] * (end - start)
        found += all(c for c, s in zip(covers[start:end], solid[start:end], strict=True) if s)
    replaced = sum(c and s for c, s in zip(covers, solid, strict=True))
    right = sum(c and s and w for c, s, w in zip(covers, solid, within, strict=True))
    return found / len(planted.spans), right / replaced if replaced else 1.0


def words_lost(before: str, after: str) -> int:
    """How many words of one text the other lacks."""
    return (Counter(before.split()) - Counter(after.split())).total()


def check(text: str, edits: Sequence[Edit]) -> str:
    """The repaired text, of edits that are in order, change something, and do not meet."""
    assert list(edits) == sorted(edits)
    assert all(text[edit.start : edit.end] != edit.replacement for edit in edits)
    return apply_edits(text, edits).text
