"""Porter's stemmer (1980), "An algorithm for suffix stripping", with the departures of the reference implementations.

The published algorithm with Martin Porter's later rules (-bli, -logi) and nltk's (short -ies and -ied, -y after a
consonant, -alli first, a table of irregular words): the form that rouge-score and nltk's METEOR use.
"""

import re
from functools import lru_cache

# Pairs "word:stem" and "suffix:replacement". Of a step's suffixes the first that the word has is tried.
IRREGULAR = """sky:sky skies:sky dying:die lying:lie tying:tie news:news howe:howe innings:inning inning:inning
    outings:outing outing:outing cannings:canning canning:canning proceed:proceed exceed:exceed succeed:succeed"""
STEP_2 = """ational:ate tional:tion enci:ence anci:ance izer:ize bli:ble alli:al entli:ent eli:e ousli:ous ization:ize
    ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous aliti:al iviti:ive biliti:ble fulli:ful"""
STEP_3 = "icate:ic ative: alize:al iciti:ic ical:ic ful: ness:"
STEP_4 = "al: ance: ence: er: ic: able: ible: ant: ement: ment: ent: ion: ou: ism: ate: iti: ous: ive: ize:"
TABLES = (IRREGULAR, STEP_2, STEP_3, STEP_4)
PAIRS = {table: {a: b for a, _, b in (pair.partition(":") for pair in table.split())} for table in TABLES}


def _shape(word: str) -> str:
    """The word in letters c (consonant) and v (vowel); y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape.endswith("c")) else "c"
    return shape


def _measure(stem: str) -> int:
    """m of [C](VC)^m[V]."""
    return _shape(stem).count("vc")


def _ends_in_short_syllable(stem: str) -> bool:
    """*o of the paper: consonant, vowel, consonant other than w, x, y; a word of vowel and consonant, too."""
    shape = _shape(stem)
    return (shape.endswith("cvc") and stem[-1] not in "wxy") or shape == "vc"


def _replaced(word: str, table: str, above: int = 0) -> str:
    """Replace a suffix of the table where the measure of what stands before it is above a bound."""
    for suffix, replacement in PAIRS[table].items():
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            replaced = _measure(stem) > above and (suffix != "ion" or stem[-1] in "st")
            return stem + replacement if replaced else word
    return word


def _without_plural(word: str) -> str:  # step 1a
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    return word[:-2] if word.endswith("sses") else re.sub("(?<!s)s$", "", word)


def _without_past(word: str) -> str:  # step 1b
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        stem = word.removesuffix(suffix)
        if stem != word and "v" in _shape(stem):
            if stem.endswith(("at", "bl", "iz")):
                return stem + "e"
            if stem[-1:] == stem[-2:-1] and _shape(stem).endswith("c"):
                return stem if stem[-1] in "lsz" else stem[:-1]
            return stem + "e" if _measure(stem) == 1 and _ends_in_short_syllable(stem) else stem
    return word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]):
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) else word
    return _replaced(word, STEP_2)


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
    if lower in PAIRS[IRREGULAR] or len(word) <= 2:
        return PAIRS[IRREGULAR].get(lower, lower)
    lower = _without_past(_without_plural(lower))
    if lower.endswith("y") and len(lower) > 2 and _shape(lower[:-1]).endswith("c"):
        lower = lower[:-1] + "i"
    return _step_5(_replaced(_replaced(_step_2(lower), STEP_3), STEP_4, above=1))
