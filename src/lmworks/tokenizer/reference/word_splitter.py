"""How a text is cut into words, by hand: no regular expression, but the same alternatives.

The rules are published as regular expressions. Such a rule is a row of alternatives, the first of which that matches at
a place makes a word. `read_rule` looks up each alternative in a table of small functions that say where a word that
begins at a place ends; one that matches nothing ends where it begins.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, partial

End = Callable[[str, int], int]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Unicode's White_Space, which `str.isspace` is not: that takes the separators U+001C to U+001F for spaces, too.
SPACES = frozenset(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F]))
SPACES |= {"\u205f", "\u3000"}


def cut(text: str, rule: Sequence[End]) -> list[str]:
    """The words of `text`; what no alternative matches is a word as well."""
    words, start, at = [], 0, 0
    while at < len(text):
        end = next((end for alternative in rule if (end := alternative(text, at)) > at), at)
        if end == at:
            at += 1
            continue
        words += [text[start:at], text[at:end]] if start < at else [text[at:end]]
        start = at = end
    return [*words, text[start:]] if start < len(text) else words


def read_rule(pattern: str) -> list[End]:
    """The alternatives of a published pattern; ValueError for one that is not written down here."""
    return [_alternative(source) for source in _alternatives(pattern)]


def cut_at(text: str, pattern: str) -> list[str]:
    """The text cut at the places that `pattern`, which matches nothing but places, finds."""
    return re.split(pattern.replace(r"\z", r"\Z"), text)  # the end of a word, as Python writes it


def cut_bert(text: str) -> list[str]:
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


def byte_letters(word: str) -> str:
    """The UTF-8 of a word, in GPT-2's letters for bytes."""
    return "".join(_byte_letters()[byte] for byte in word.encode())


@cache
def _byte_letters() -> list[str]:
    """Visible Latin-1 characters stand for their bytes, and those from U+0100 on for the other bytes, in order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in visible else chr(next(others)) for byte in range(256)]


# ---------------------------------------------------------------------------------------------------------------------
# Classes of characters

category = cache(unicodedata.category)


def _letter(character: str) -> bool:
    return category(character)[0] == "L"


def _number(character: str) -> bool:
    return category(character)[0] == "N"


def _space(character: str) -> bool:
    return character in SPACES


def _other(character: str) -> bool:
    return not (_letter(character) or _number(character) or _space(character))


def _before_letters(character: str) -> bool:
    return not (character in "\r\n" or _letter(character) or _number(character))


def _upper(character: str) -> bool:
    return category(character) in ("Lu", "Lt", "Lm", "Lo") or category(character)[0] == "M"


def _lower(character: str) -> bool:
    return category(character) in ("Ll", "Lm", "Lo") or category(character)[0] == "M"


# ---------------------------------------------------------------------------------------------------------------------
# Alternatives


def _run(text: str, at: int, belongs: Callable[[str], bool], most: int = 0) -> int:
    """Where the characters that belong together end: `most` of them, or any number."""
    end = len(text) if most == 0 else min(len(text), at + most)
    while at < end and belongs(text[at]):
        at += 1
    return at


def _word(
    text: str, at: int, belongs: Callable[[str], bool], before: Callable[[str], bool] | None = None, after: str = ""
) -> int:
    """A run of at least one, with one character `before` it and any number of those in `after` behind, if they are."""
    start = at + 1 if before is not None and before(text[at]) else at
    end = _run(text, start, belongs)
    if end == start:
        start = at  # what could stand before may belong itself
        end = _run(text, start, belongs)
    return at if end == start else _run(text, end, after.__contains__)


def _literal(text: str, at: int, wanted: str) -> int:
    return at + len(wanted) if text.startswith(wanted, at) else at


_ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def _ending(text: str, at: int) -> int:
    """'s, 't, … in any case; the long ſ is an s."""
    for ending in _ENDINGS:
        found = text[at : at + len(ending)]
        if len(found) == len(ending) and all(a.casefold() == b for a, b in zip(found, ending, strict=True)):
            return at + len(ending)
    return at


def _lines(text: str, at: int) -> int:
    """Spaces up to the last line break among them."""
    end = _run(text, at, _space)
    return at + 1 + max(text.rfind("\r", at, end) - at, text.rfind("\n", at, end) - at, -1)


def _spaces_before_word(text: str, at: int) -> int:
    """Spaces but the last, which belongs to the word behind them; all of them at the end of the text."""
    end = _run(text, at, _space)
    return end if end == len(text) else max(at, end - 1)


def _cased(text: str, at: int, capitals: bool) -> int:
    """A word of small letters with capitals before them, or (`capitals`) of capitals with small letters behind them.

    Letters without case are both, and so are accents, which also may stand before a word.
    """
    for start in (at + 1, at) if _before_letters(text[at]) else (at,):
        middle = _run(text, start, _upper)
        end = _run(text, middle, _lower)
        if end == middle and not capitals:  # the last of the "capitals" that is a small letter as well
            end = next((place + 1 for place in range(middle - 1, start - 1, -1) if _lower(text[place])), start)
        if end > start and (middle > start or not capitals):
            return _ending(text, end)
    return at


def _is(*characters: str) -> Callable[[str], bool]:
    return frozenset(characters).__contains__


def _neither(characters: str, numbers: bool = False) -> Callable[[str], bool]:
    return lambda character: character not in characters and not (numbers and _number(character))


_CAPITALS, _SMALL = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_ANY_CASE = f"(?i:{'|'.join(_ENDINGS)})"
_TABLE: dict[str, End] = {
    _ANY_CASE: _ending,
    r" ?\p{L}+": partial(_word, belongs=_letter, before=_is(" ")),
    r" ?\p{N}+": partial(_word, belongs=_number, before=_is(" ")),
    r" ?[^\s\p{L}\p{N}]+": partial(_word, belongs=_other, before=_is(" ")),
    r" ?[^\s\p{L}\p{N}]+[\r\n]*": partial(_word, belongs=_other, before=_is(" "), after="\r\n"),
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*": partial(_word, belongs=_other, before=_is(" "), after="\r\n/"),
    r"[^\r\n\p{L}\p{N}]?\p{L}+": partial(_word, belongs=_letter, before=_before_letters),
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_CAPITALS}]*[{_SMALL}]+{_ANY_CASE}?": partial(_cased, capitals=False),
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_CAPITALS}]+[{_SMALL}]*{_ANY_CASE}?": partial(_cased, capitals=True),
    r"\p{N}+": partial(_run, belongs=_number),
    r"\p{N}": partial(_run, belongs=_number, most=1),
    r"\p{N}{1,3}": partial(_run, belongs=_number, most=3),
    r"\s*[\r\n]+": _lines,
    r"\s+(?!\S)": _spaces_before_word,
    r"\s+": partial(_run, belongs=_space),
    r"[\r\n]+": partial(_run, belongs=_is("\r", "\n")),
    r"▁?[^▁\r\n]+": partial(_word, belongs=_neither("▁\r\n"), before=_is("▁")),
    r"▁?[^▁\r\n\p{N}]+": partial(_word, belongs=_neither("▁\r\n", numbers=True), before=_is("▁")),
}


def _alternative(source: str) -> End:
    if source in _TABLE:
        return _TABLE[source]
    if source in _ENDINGS or source == "▁":
        return partial(_literal, wanted=source)
    raise ValueError(f"the alternative {source!r} of a rule for words is not written down here")


def _alternatives(pattern: str) -> list[str]:
    """The pattern cut at the | that stand in no parentheses."""
    sources, depth = [""], 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            sources.append("")
        else:
            sources[-1] += character
    return sources
