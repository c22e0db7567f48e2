"""Telephone numbers: international ones (ITU-T E.164), and national ones in the forms that give them away.

Which country a national number is of, a text does not say. In its place stand a form that little else has
(`555-123-4567`, `(08) 8747 6301`), the zero in front of an area code, and a word such as `call` nearby. Runs of digits
are read as a whole: `1987 45 612 3` in a table is no number because some part of it could be one.
"""

import re
from collections.abc import Iterator

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.pii.addresses import Regions, before

RULE = "pii.phone"

_GAPS = r" \u00a0\u2009\u202f.()/\u2010-\u2013-"
# ITU-T, list of assigned codes (complement to E.164).
COUNTRY = (
    r"(?:1|7|2(?:0|7|1[12368]|[2-4][0-9]|5[0-8]|6[0-9]|9[017-9])|3(?:[0-469]|5[0-9]|7[0-9]|8[0-35-79])"
    r"|4(?:[013-9]|2[013])|5(?:[1-8]|0[0-9]|9[0-9])|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])"
    r"|8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68]))"
)
_COUNTRY = re.compile(COUNTRY)
PATTERNS = read_patterns(__file__)


_IN_SIGHT = 32  # characters

_LONGEST = 40  # characters of a national number
_FORMS: tuple[tuple[re.Pattern[str], int, int, float], ...] = (  # how it is written, fewest and most digits, score
    (re.compile(rf"00{COUNTRY}[0-9{_GAPS}]+"), 10, 17, 0.7),  # with the prefix of a call abroad
    (re.compile(rf"\(?0[1-9][0-9]*[{_GAPS}][0-9{_GAPS}]+"), 9, 11, 0.7),  # with the zero in front of an area code
    (re.compile(r"[2-9][0-9]{2} [0-9]{3} [0-9]{4}"), 10, 10, 0.5),
    (re.compile(r"0[1-9][0-9]+"), 10, 11, 0.3),
)
_SURE, _SHORT, _NAMED, _UNLIKELY, _EXAMPLE = 0.95, 0.7, 0.9, 0.3, 0.2


def find_phones(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of telephone numbers in regions of digits and what separates them, with their extensions."""
    for start, end in regions:
        plus = PATTERNS["plus"].search(text, max(0, start - 2), start)
        mark = _international(text, plus.start(), start, end) if plus else None
        if mark is not None:
            yield mark
            start = mark.end
        found = False
        bracket = text[start - 1 : start] == "("
        for match in PATTERNS["american"].finditer(text, start - bracket, end + 2):
            stop = _with_extension(text, match.end())
            if stop is not None:
                found = True
                score = _EXAMPLE if PATTERNS["fiction"].search(match[0]) else _NAMED
                yield TaggedSpan(RULE, match.start(), stop, score)
        if mark is None and not found:
            yield from _national(text, start, end)


def _international(text: str, plus: int, start: int, end: int) -> TaggedSpan | None:
    """The number with the plus sign at `plus`, whose digits begin at `start`: up to 15, whole groups of them."""
    country = _COUNTRY.match(text, start, end)
    if country is None:
        return None
    american = country[0] == "1"
    digits, stop = _whole_groups(text, start, end, 11 if american else 15)
    stop = _with_extension(text, stop)
    if stop is None or digits < 7 or (american and digits != 11):
        return None
    opened = text[plus - 1 : plus] == "(" and text.count(")", plus, stop) > text.count("(", plus, stop)
    begin = plus - opened
    if american and PATTERNS["fiction"].search(text, start, stop):
        return TaggedSpan(RULE, begin, stop, _EXAMPLE)
    return TaggedSpan(RULE, begin, stop, _SURE if digits > 7 else _SHORT)


def _whole_groups(text: str, start: int, end: int, most: int) -> tuple[int, int]:
    """How many digits the groups have that hold at most so many together, and where the last of them ends.

    Brackets stand behind the code of a country; later ones begin another number.
    """
    digits, stop = 0, start
    for group in PATTERNS["digits"].finditer(text, start, min(end, start + 4 * most)):
        if digits + len(group[0]) > most or (digits > 3 and text[group.start() - 1] == "("):
            break
        digits, stop = digits + len(group[0]), group.end()
    return digits, stop


def _with_extension(text: str, end: int) -> int | None:
    """The end of the number with its extension; None where a word goes on."""
    extension = PATTERNS["extension"].match(text, end, end + 20)
    if extension is not None:
        return extension.end()
    after = text[end : end + 1]
    return None if after.isalnum() or after == "_" else end


def _national(text: str, start: int, end: int) -> Iterator[TaggedSpan]:
    """The region as one number, where its form or a word nearby says that it is one."""
    stop = _with_extension(text, end)
    if stop is None or end - start > _LONGEST:
        return
    if text[start - 1 : start] == "(" and ")" in text[start:end]:
        start -= 1
    written = text[start:end]
    digits = sum(map(len, PATTERNS["digits"].findall(written)))
    if (
        not 7 <= digits <= 17
        or PATTERNS["not_behind"].search(text, max(0, start - 2), start)
        or PATTERNS["date"].search(written)
    ):
        return
    if PATTERNS["not_before"].match(text, stop, stop + 2) or PATTERNS["of_others"].fullmatch(written):
        return
    forms = (score for form, fewest, most, score in _FORMS if fewest <= digits <= most and form.fullmatch(written))
    score = next(forms, 0.0)
    if PATTERNS["of_things"].search(before(text, start, _IN_SIGHT)):
        score = min(score, _UNLIKELY)
    elif digits <= 13 and (
        PATTERNS["of_phones"].search(before(text, start, _IN_SIGHT))
        or PATTERNS["words_behind"].match(text, stop, stop + _IN_SIGHT)
    ):
        score = _NAMED if score else 0.6
    if score:
        yield TaggedSpan(RULE, start, stop, score)
