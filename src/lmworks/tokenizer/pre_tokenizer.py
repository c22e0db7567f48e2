"""The rules that cut a text into words before anything is merged: merges never cross the end of a word.

A rule exists twice: as the pre-tokenizer of the `tokenizers` library, which is stored in `tokenizer.json` and defines
it, and as a hand-written scanner (`cpp/scan.h`), with which training cuts some fifty times as fast. A table read
off the library says what is a letter, a number or a space, so that both follow the same version of Unicode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Regex, pre_tokenizers

from lmworks.tokenizer.config import DIGITS, RULES, Digits, Rule

SPACE = "▁"  # SentencePiece's letter for a space
CODE_POINTS = 0x110000
_PLANES = (0, 1, 2, 3, 14)  # of 0x10000 code points; the others have no characters, or are for private use
_CLASSES = (r"\p{L}+", r"\p{N}+", r"\s+")  # 1, 2, 3; everything else is 0


def steps_of(component: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a normaliser, pre-tokenizer or decoder in a `tokenizer.json`."""
    if component is None:
        return []
    nested = next((component[name] for name in ("normalizers", "pretokenizers", "decoders") if name in component), None)
    return [component] if nested is None else [step for inner in nested for step in steps_of(inner)]


@dataclass(frozen=True, slots=True)
class WordRule:
    """A rule that cuts texts into words.

    rule    none: a text is one word, so that tokens may span spaces; gpt2: Radford et al. 2019; gpt4: OpenAI's cl100k;
            metaspace: SentencePiece's (Kudo & Richardson 2018), a word and the space before it, and line breaks apart.
    digits  how many digits of a number make a word: all of the "run", "one", or "three" at most, from the left.
    """

    rule: Rule = "gpt4"
    digits: Digits = "three"

    def __post_init__(self) -> None:
        for name, value, allowed in (("rule", self.rule, RULES), ("digits", self.digits, DIGITS)):
            if value not in allowed:
                raise ValueError(f"{name} of words must be one of {', '.join(allowed)}, got {value!r}")

    @property
    def codes(self) -> tuple[int, int]:
        """The rule and the limit of digits as the compiled scanner takes them."""
        return RULES.index(self.rule), {"run": 0, "one": 1, "three": 3}[self.digits]

    def pattern(self) -> str | None:
        """The regular expression that matches the words, or what stands between them; None for a rule without one."""
        if self.rule == "none":
            return None
        numbers = {"run": r"\p{N}+", "one": r"\p{N}", "three": r"\p{N}{1,3}"}[self.digits]
        if self.rule == "metaspace":
            if self.digits == "run":
                return r"[\r\n]+| ?[^ \r\n]+| "
            return r"[\r\n]+|" + numbers + r"| ?[^ \r\n\p{N}]+| "
        if self.rule == "gpt2":
            space = " ?" if self.digits == "run" else ""  # a limit leaves the space before a number to itself
            return (
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|" + space + numbers + r"| ?[^\s\p{L}\p{N}]+|"
                r"\s+(?!\S)|\s+"
            )
        return (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + numbers + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+"
        )

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The rule as the library runs it; it also writes the bytes of a word as GPT-2's letters, or spaces as ▁."""
        if self.rule == "metaspace":
            as_letter = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
            pattern = str(self.pattern()).replace(" ", SPACE)
            return pre_tokenizers.Sequence([as_letter, pre_tokenizers.Split(Regex(pattern), "isolated")])
        as_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        pattern = self.pattern()
        if pattern is None:
            return as_letters
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), as_letters])

    def cut(self, text: str) -> list[str]:
        """The words of a text, which join to it: the definition, in the library's own words."""
        pattern = self.pattern()
        if pattern is None:
            return [text] if text else []
        return [word for word, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


@cache
def character_classes() -> np.ndarray:
    """(0x110000,) uint8: whether the library's regular expressions take a code point for a letter (1), a number (2), a
    space (3), or none of them (0)."""
    table = np.zeros(CODE_POINTS, np.uint8)
    for plane in _PLANES:  # one by one, since the library needs some 300 bytes for a character
        points = [code for code in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= code < 0xE000]
        table[points] = _classify("".join(map(chr, points)))
    table.setflags(write=False)
    return table


@cache
def digit_classes() -> np.ndarray:
    """The same, with the numbers of the library's `Digits`, which follows a later version of Unicode than its regular
    expressions do."""
    table = character_classes().copy()
    for plane in _PLANES:
        points = np.array([code for code in range(plane << 16, (plane + 1) << 16) if not 0xD800 <= code < 0xE000])
        # Only a number stands alone between letters.
        text = "".join(f"a{chr(code)}" for code in points.tolist()) + "a"
        cuts = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
        alone = [start // 2 for _, (start, end) in cuts if end - start == 1 and start % 2]
        table[points[alone]] = 2
    table.setflags(write=False)
    return table


def _classify(text: str) -> np.ndarray:
    """(characters,) uint8: what the library finds, run by run, and for each run by its first character."""
    runs = pre_tokenizers.Split(Regex("|".join(_CLASSES)), "isolated").pre_tokenize_str(text)
    starts = "".join(run[0] for run, _ in runs)
    classes = np.zeros(len(text), np.uint8)
    for number, pattern in enumerate(_CLASSES, start=1):
        matches = pre_tokenizers.Split(Regex(pattern.rstrip("+")), "removed", invert=True).pre_tokenize_str(starts)
        for _, (run_index, _) in matches:
            start, end = runs[run_index][1]
            classes[start:end] = number
    return classes
