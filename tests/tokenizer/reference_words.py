r"""Pre-tokenization: a text cut into words by published regular expressions, run by Python's `re`.

The expressions are written for engines that know Unicode's categories (`\p{L}`), which `re` does not: these become sets
of characters read off `unicodedata`. The alternatives, lookarounds and cases are `re`'s own.
"""

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Unicode's White_Space, which `re`'s is not: that takes the separators U+001C to U+001F for spaces, too.
SPACES = frozenset(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F]))
SPACES |= {"\u205f", "\u3000"}
category = cache(unicodedata.category)


def split_isolated(text: str, pattern: str) -> list[str]:
    """The matches of `pattern`, and what lies between them; where a match is empty, the text is cut."""
    words, done = [], 0
    for match in _compiled(pattern).finditer(text):
        words += [text[done : match.start()], match.group()]
        done = match.end()
    return [word for word in (*words, text[done:]) if word]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """The expression in Python's dialect."""
    spaces, in_set = "".join(sorted(SPACES)), False

    def translated(match: re.Match[str]) -> str:
        nonlocal in_set
        part, name = match.group(), match[1]
        if part in "[]":
            in_set = part == "["
        elif part == r"\s" or name:
            characters = "".join(r for c, r in _ranges().items() if c.startswith(name)) if name else spaces
            return characters if in_set else f"[{characters}]"
        return {r"[\s\S]": "(?s:.)", r"\S": f"[^{spaces}]", r"\z": r"\Z"}.get(part, part)

    return re.compile(re.sub(r"\[\\s\\S\]|\\p\{(\w+)\}|\\.|[\[\]]", translated, pattern))


@cache
def _ranges() -> dict[str, str]:
    """The characters of each category, as the ranges of a set."""
    ranges: dict[str, str] = {}
    for name, run in groupby(range(sys.maxunicode + 1), lambda code: unicodedata.category(chr(code))):
        codes = list(run)
        ranges[name] = f"{ranges.get(name, '')}\\U{codes[0]:08x}-\\U{codes[-1]:08x}"
    return ranges


def split_bert(text: str) -> list[str]:
    """BERT's words (Devlin et al. 2019): what lies between spaces, with every punctuation mark a word of its own."""
    words = [""]
    for character in text:
        if character in SPACES:
            words.append("")
        elif is_punctuation(character):
            words += [character, ""]
        else:
            words[-1] += character
    return [word for word in words if word]


def is_punctuation(character: str) -> bool:
    """Unicode's, and all of ASCII that is neither a letter, a digit nor a space."""
    ascii_mark = "!" <= character <= "~" and not character.isalnum()
    return ascii_mark or category(character)[0] == "P"
