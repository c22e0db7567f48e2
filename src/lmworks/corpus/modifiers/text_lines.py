"""Lines as modifiers see them: where one stands, whether a sentence ends with it, what its numeral is worth."""

import re
from collections.abc import Iterable
from itertools import accumulate, groupby

from lmworks.records import Edit

HYPHENS = "-\u2010\u00ad\u00ac"  # hyphen-minus, hyphen, soft hyphen, and the sign that some OCR writes for it
LABELS = (  # of numbered parts of books
    "chapter|book|part|letter|section|canto|act|scene|volume|stave|kapitel|teil|buch|brief|abschnitt|akt|szene|"
    "chapitre|livre|partie|lettre|tome|acte|scène|"
    "capítulo|capitulo|libro|parte|carta|capitolo|hoofdstuk|deel|boek"
)
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_CLOSING = "\"'”’»)]}*_"
_SENTENCE_END = frozenset(".!?…:。！？")
_ROMAN = re.compile(r"m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})", re.I)
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}


def split_lines(text: str, at: str = "\n") -> tuple[list[str], list[int]]:
    """The lines, which end at any of the characters `at`, without these, and where each starts; one start more than
    lines, the end of the text. Line `i` with its end is `text[starts[i]:starts[i + 1]]`."""
    lines = re.split(f"[{at}]", text) if at != "\n" else text.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    starts[-1] = len(text)
    return lines, starts


def fenced(lines: Iterable[str]) -> list[bool]:
    """Whether each line is of a block of code in Markdown, the fences among them."""
    found, inside = [], False
    for line in lines:
        fence = bool(_FENCE.match(line))
        found.append(inside or fence)
        inside ^= fence
    return found


def line_end_at(text: str, position: int) -> int:
    """Where the line at a position ends, before its newline."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def ends_sentence(line: str) -> bool:
    """Whether a line ends where a sentence may end; an empty one does."""
    bare = line.rstrip().rstrip(_CLOSING)
    return not bare or bare[-1] in _SENTENCE_END


def runs_on(before: str, after: str) -> bool:
    """Whether a sentence surely continues from one line to the next."""
    return after.lstrip()[:1].islower() and not ends_sentence(before)


def indentation(line: str) -> int:
    """Columns before the first character; a tab counts four."""
    bare = line.lstrip(" \t")
    return len(line) - len(bare) + 3 * line.count("\t", 0, len(line) - len(bare))


def roman_value(numeral: str) -> int | None:
    """The value of a Roman numeral in canonical form, in capitals or small letters; None for anything else."""
    if not numeral or not _ROMAN.fullmatch(numeral):
        return None
    digits = [_ROMAN_DIGITS[letter] for letter in numeral.lower()]
    return sum(-digit if digit < after else digit for digit, after in zip(digits, [*digits[1:], 0], strict=True))


def letters_of(line: str) -> str:
    """The letters of a line, casefolded: numbers, spaces and marks may differ."""
    return "".join(filter(str.isalpha, line)).casefold()


def cut_lines(rules: list[str], starts: list[int]) -> list[Edit]:
    """Edits that cut the lines which have a rule: one for each run of lines with the same rule."""
    edits: list[Edit] = []
    for rule, group in groupby(range(len(rules)), rules.__getitem__):
        run = list(group)
        if rule and starts[run[0]] < starts[run[-1] + 1]:
            edits.append(Edit(starts[run[0]], starts[run[-1] + 1], "", rule))
    return edits
