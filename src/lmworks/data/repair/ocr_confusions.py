"""Which letters OCR takes for which, and how often: the channel of the noisy-channel model.

The pairs are those that studies of OCR text list again and again (Kolak and Resnik 2002; Evershed and Fitch 2014,
section 3); the weights are rounded orders of magnitude, for print of middling quality: of all times that `printed`
stands in a book, in which share it is read as `read`.
"""

import math
from collections.abc import Iterator, Mapping

_OFTEN, _SOMETIMES, _SELDOM = 3e-3, 1e-3, 2e-4

# weight -> pairs "read printed"
_PAIRS = {
    _OFTEN: "rn m, m rn, 1 l, 1 i, 0 o, vv w, li h, tli th, tbe the, ii n, ii u, ri n, cl d, l1 h, 5 s",
    _SOMETIMES: "b h, h b, c e, e c, u n, n u, in m, m in, ni m, d cl, h li, n ri, I l, l I, l i, i l, l t, t l, "
    "iii m, nn m, m nn, lil hl, lii hi, ln in, lh th, iu in, hl bl, 8 B, 6 b, 9 g, 0 O, 1 I, 5 S, fi f, fl f, f s",
    _SELDOM: "a o, o a, o e, e o, s a, a s, r t, t r, f t, t f, v y, y v, g q, q g, p n, k h, lc k, j i",
}  # fmt: skip
LIGATURES = {  # and the long s
    "ſ": "s", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st",
}  # fmt: skip

LONGEST = 3  # characters that are read for one or more printed ones, and of those

_Table = Mapping[str, tuple[tuple[str, float], ...]]


def _tables() -> tuple[_Table, _Table]:
    confusions: dict[str, list[tuple[str, float]]] = {}
    readings: dict[str, list[tuple[str, float]]] = {}
    for weight, pairs in _PAIRS.items():
        for pair in pairs.split(", "):
            read, printed = pair.split()
            confusions.setdefault(read, []).append((printed, math.log(weight)))
            readings.setdefault(printed, []).append((read, math.log(weight)))
    frozen = [{key: tuple(values) for key, values in table.items()} for table in (confusions, readings)]
    return frozen[0], frozen[1]


CONFUSIONS, _READINGS = _tables()  # read -> (printed, natural logarithm of the weight); and printed -> (read, ...)


def corrections(word: str) -> Iterator[tuple[str, float]]:
    """The words that may have been printed where `word` was read, each by one confusion, with its log weight."""
    return _exchanged(word, CONFUSIONS)


def misreadings(word: str) -> Iterator[tuple[str, float]]:
    """What may be read where `word` is printed, each by one confusion, with its log weight."""
    return _exchanged(word, _READINGS)


def _exchanged(word: str, table: _Table) -> Iterator[tuple[str, float]]:
    for start in range(len(word)):
        for end in range(start + 1, min(start + LONGEST, len(word)) + 1):
            for other, weight in table.get(word[start:end], ()):
                yield word[:start] + other + word[end:], weight
