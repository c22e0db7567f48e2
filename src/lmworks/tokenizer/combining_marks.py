"""Combining marks: vowel signs, accents and the like, without which words of many scripts would fall apart."""

import unicodedata
from functools import cache
from itertools import groupby


@cache
def combining_marks() -> str:
    r"""All of them (categories Mn, Mc, Me) as the inside of a class of characters, by Python's own tables, of which
    `\w`, which leaves them out, is as well. Beyond the second plane there are only the variation selectors."""
    points = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)]
    marks = [point for point in points if unicodedata.category(chr(point))[0] == "M"]
    runs = ([point for _, point in run] for _, run in groupby(enumerate(marks), key=lambda pair: pair[1] - pair[0]))
    return "".join(f"\\U{run[0]:08x}-\\U{run[-1]:08x}" for run in runs)
