"""What counts as a word when vocabularies are measured: one rule for all languages, and for all vocabularies.

A word is a run of letters and digits with their combining marks; apostrophes and joiners between two of them belong to
it. In scripts that are written without spaces each letter is a word, so that tokens per word are tokens per character
there. Punctuation, symbols and emoji are no words. This is the rule of Unicode's word boundaries (UAX #29), without
what that says about numbers and without a dictionary for the scripts that need one.
"""

import re
import sys
import unicodedata
from functools import cache

# Han, kana, Thai, Lao, Tibetan, Burmese, Khmer and their extensions: no spaces between words.
UNSPACED = (
    (0x0E01, 0x0E30), (0x0E32, 0x0E33), (0x0E40, 0x0E46),  # Thai, without its marks
    (0x0E81, 0x0EB0), (0x0EB2, 0x0EB3), (0x0EBD, 0x0EC6), (0x0EDC, 0x0EDF),  # Lao
    (0x0F40, 0x0F6C), (0x1000, 0x102A), (0x103F, 0x103F), (0x1050, 0x1055), (0x1780, 0x17B3),  # Tibetan, Burmese, Khmer
    (0x3005, 0x3007), (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip


def word_spans(text: str) -> list[tuple[int, int]]:
    """The code points `[start, end)` of every word of `text`, in order."""
    return [match.span() for match in _pattern().finditer(text)]


@cache
def _pattern() -> re.Pattern[str]:
    marks = "[" + _ranges(_marks()) + "]"
    unspaced = "[" + _ranges(UNSPACED) + "]"
    letter = rf"(?!{unspaced})[^\W_]"
    joiner = r"['’·\u200c\u200d]"
    return re.compile(rf"{unspaced}{marks}*|{letter}(?:{letter}|{marks}|{joiner}(?={letter}))*")


def _marks() -> list[tuple[int, int]]:
    """Python's `\\w` leaves out combining marks, without which no Indic word would hold together."""
    found: list[tuple[int, int]] = []
    for point in range(0x300, sys.maxunicode + 1):
        if unicodedata.category(chr(point)) in ("Mn", "Mc", "Me"):
            if found and found[-1][1] == point - 1:
                found[-1] = (found[-1][0], point)
            else:
                found.append((point, point))
    return found


def _ranges(ranges: "list[tuple[int, int]] | tuple[tuple[int, int], ...]") -> str:
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
