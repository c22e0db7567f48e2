"""Porter's stemmer (1980), "An algorithm for suffix stripping", with the departures of the reference implementations.

The published algorithm with Martin Porter's later rules (-bli, -logi) and nltk's (short -ies and -ied, -y after a
consonant, -alli first, a table of irregular words): the form that rouge-score and nltk's METEOR use.
"""

import re
from functools import lru_cache

IRREGULAR = {
    **{"sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "howe": "howe"},
    **{"innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning"},
    **{"canning": "canning", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed"},
}
# suffix -> replacement, the first that the word ends with is tried: step 2 where the measure of the stem is above 0
STEP_2 = """ational ate tional tion enci ence anci ance izer ize bli ble alli al entli ent eli e ousli ous ization ize
    ation ate ator ate alism al iveness ive fulness ful ousness ous aliti al iviti ive biliti ble fulli ful""".split()
STEP_3 = "icate ic ative - alize al iciti ic ical ic ful - ness -".split()
STEP_4 = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split()  # measure above 1


def _shape(word: str) -> str:
    """The word in letters c (consonant) and v (vowel); y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(stem: str) -> int:
    """m of [C](VC)^m[V]."""
    return _shape(stem).count("vc")


def _ends_in_short_syllable(stem: str) -> bool:
    """*o of the paper: consonant, vowel, consonant other than w, x, y; a word of vowel and consonant, too."""
    shape = _shape(stem)
    return (shape.endswith("cvc") and stem[-1] not in "wxy") or shape == "vc"


def _ends_in_double_consonant(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("c")


def _replaced(word: str, rules: list[str]) -> str:
    """Replace the first of the suffixes (at even places of `rules`) that the word has, if m of what is left is > 0."""
    for suffix, replacement in zip(rules[::2], rules[1::2], strict=True):
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + replacement.strip("-") if _measure(stem) > 0 else word
    return word


def _without_plural(word: str) -> str:  # step 1a
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    return word[:-2] if word.endswith("sses") else re.sub("(?<!s)s$", "", word)


def _without_past(word: str) -> str:  # step 1b
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        stem = word.removesuffix(suffix)
        if stem != word and "v" in _shape(stem):
            if stem.endswith(("at", "bl", "iz")):
                return stem + "e"
            if _ends_in_double_consonant(stem):
                return stem if stem[-1] in "lsz" else stem[:-1]
            return stem + "e" if _measure(stem) == 1 and _ends_in_short_syllable(stem) else stem
    return word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, STEP_2)


def _step_4(word: str) -> str:
    for suffix in STEP_4:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem if _measure(stem) > 1 and (suffix != "ion" or stem[-1] in "st") else word
    return word


def _step_5(word: str) -> str:
    if word.endswith("e"):
        m = _measure(word[:-1])
        if m > 1 or (m == 1 and not _ends_in_short_syllable(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


@lru_cache(1 << 16)
def stem(word: str) -> str:
    """The stem of a word, in lower case. Words of one or two letters stay."""
    lower = word.lower()
    if lower in IRREGULAR:
        return IRREGULAR[lower]
    if len(word) <= 2:
        return lower
    lower = _without_past(_without_plural(lower))
    if lower.endswith("y") and len(lower) > 2 and _shape(lower[:-1]).endswith("c"):
        lower = lower[:-1] + "i"
    return _step_5(_step_4(_replaced(_step_2(lower), STEP_3)))
