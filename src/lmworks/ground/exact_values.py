"""Numbers, dates, units, names and quoted words of a statement, normalised, and those that its evidence lacks.

    missing_values("It opened on 3 March 2021 with 1k seats.", "Opened 2021-03-03; one thousand seats")  # ()

1,000 = 1000 = one thousand = 1k, 5 km = 5000 m, 5% = 0.05. A rounded number agrees with what rounds to it (1.2 million
with 1,234,567), "about 300" with what is a tenth away. 3 March 2021 = 2021-03-03, and a part of a date agrees with the
whole. Names are compared word by word without case and accents: a last name alone agrees with the full one, WHO with
World Health Organization, Austrian with Austria; initials agree with everything.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from lmworks.retrieve.bm25 import STOP_WORDS

APPROXIMATE = 0.1  # of its value, what "about" allows
_IDIOMS = frozenset({"one", "first", "second"})  # that count nothing, most of the time
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_WORDS = {word: value for value, word in enumerate(_SMALL.split())} | dict(zip(_TENS, range(20, 100, 10), strict=True))
_WORDS |= {f"{word}th": value for word, value in _WORDS.items()} | {f"{word[:-1]}ieth": _WORDS[word] for word in _TENS}
_WORDS |= {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_LETTERS = {"k": 1e3, "m": 1e6, "mn": 1e6, "bn": 1e9}
_SIZES = """length nm 1e-9 µm|μm 1e-6 mm|millimetre|millimeter 1e-3 cm|centimetre|centimeter .01 m|metre|meter 1
    km|kilometre|kilometer 1e3 inch .0254 ft|foot|feet .3048 yard .9144 mi|mile 1609.344
mass mg|milligram 1e-3 g|gram 1 kg|kilogram 1e3 tonne 1e6 oz|ounce 28.3495 lb|pound 453.59237
time ns|nanosecond 1e-9 µs|μs|microsecond 1e-6 ms|millisecond 1e-3 s|sec|second 1 min|minute 60 h|hr|hour 3600 day 86400
    week 604800
data byte 1 kb|kilobyte 1e3 mb|megabyte 1e6 gb|gigabyte 1e9 tb|terabyte 1e12 kib 1024 mib 1048576 gib 1073741824
volume ml|millilitre|milliliter 1e-3 cl .01 l|litre|liter 1
power w|watt 1 kw|kilowatt 1e3 mw|megawatt 1e6 gw|gigawatt 1e9
frequency hz|hertz 1 khz 1e3 mhz 1e6 ghz 1e9
share %|percent|per_cent .01"""
_UNITS = {"°f": ("temperature", 5 / 9, 459.67 * 5 / 9), "°c": ("temperature", 1.0, 273.15)}  # kind, size, zero
_UNITS |= {f"{way}{name}": _UNITS[f"°{name[0]}"] for name in ("celsius", "fahrenheit") for way in ("", "degrees ")}
for _kind, *_pairs in (line.split() for line in _SIZES.replace("\n    ", " ").splitlines()):
    for _names_of, _size in zip(_pairs[::2], _pairs[1::2], strict=True):
        _UNITS |= {name.replace("_", " "): (_kind, float(_size), 0.0) for name in _names_of.split("|")}

_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_WORD = "|".join(sorted((*_WORDS, *_SCALES), key=len, reverse=True))
_NUMBER = re.compile(
    r"(?P<about>(?:\b(?:about|around|roughly|nearly|almost|over|(?:more|less|fewer) than|approximately)|~) ?)?"
    r"(?P<money>[$€£] ?)?(?:(?<![\w.])(?P<digits>[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)"
    r"(?:st|nd|rd|th|(?P<decade>s))?"
    rf"(?: (?P<scale>{'|'.join(_SCALES)})\b|(?P<letter>k|m|mn|bn)\b)?"
    rf"|\b(?P<words>(?:{_WORD})(?:[ -](?:and )?(?:{_WORD}))*)\b)(?:[ -]?(?P<unit>{_UNIT})(?:e?s)?(?!\w)|(?![^\W\d_]))",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s?(?:[-–—]|to|and|or)\s?")  # the two ends of a range
_NAMES = "january february march april may june july august september october november december".split()
_MONTHS = {name[:3]: number for number, name in enumerate(_NAMES, 1)}
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]}|t)?' for name in _NAMES)})\b\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>\d{4})[-/](?P<number>\d\d?)[-/](?P<day>\d\d?)\b",
        r"\b(?P<number>\d\d?)[/.](?P<day>\d\d?)[/.](?P<year>\d{4})\b",  # or the day first
        rf"\b(?P<day>\d\d?)(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? (?P<year>\d{{4}}))?\b",
        rf"\b{_MONTH} (?P<day>\d\d?)(?:st|nd|rd|th)?\b(?:,? (?P<year>\d{{4}})\b)?",
        rf"\b{_MONTH},? (?P<year>\d{{4}})\b",
    )
)
_QUOTE = re.compile(r"\"[^\"\n]{2,}\"|“[^”\n]{2,}”|`[^`\n]+`")
_BEGINNING = re.compile(r"(?:\A|[.!?:;\n])[\s\"“”'‘(\[*`-]*\Z")  # before the first word of a sentence
_IDENTIFIER = re.compile(r"[a-z][A-Z]|\w_\w|[^\W\d]\d|\d[^\W\d]")
_CAPITAL = r"\b[A-ZÀ-ÖØ-Þ]\w*"
_RUN = re.compile(rf"{_CAPITAL}(?:(?: |-|\. ?| (?:of|for|and|the) ){_CAPITAL})*")
_INFLECTED = re.compile(r"s|es|n|an|ian|ish|ese|i|y|ic")  # Austria, Austrian


class Value(NamedTuple):
    """A date or a number as it is `written` from `start` on: what it says, and what it takes to agree with it."""

    written: str
    start: int
    readings: list[tuple[str, float]]  # kind ("" for any number, "bare" for one without a unit), value in its base unit
    ranges: list[tuple[str, float, float]]  # kind, lowest and highest value, any of which


def missing_values(statement: str, evidence: str) -> tuple[str, ...]:
    """The values of a statement that its evidence does not have, as they are written."""
    numbers, words, initials = _of_evidence(evidence)
    text = f" {' '.join(words)} "
    missing = [quote[0] for quote in _QUOTE.finditer(statement) if f" {' '.join(_words(quote[0]))} " not in text]
    for value in _values(statement):
        agreeing = (
            low - 1e-9 * abs(low) <= number <= high + 1e-9 * abs(high)
            for kind, low, high in value.ranges
            for number in numbers[kind]
        )
        if value.written.lower() not in _IDIOMS and not any(agreeing):
            missing.append(value.written)
        statement = _without(statement, value.start, value.written)
    for run in _RUN.finditer(statement):
        names = re.findall(_CAPITAL, run[0])
        names = names[1:] if _BEGINNING.search(statement, 0, run.start()) else names  # a sentence begins with one
        if len(names) < 2 or "".join(name[0] for name in names).lower() not in words:  # WHO stands for all three
            missing += [name for name in names if not _named(name, words, initials)]
    identifiers = (word for word in re.findall(r"\w+", statement) if _IDENTIFIER.search(word))
    return tuple(dict.fromkeys([*missing, *(name for name in identifiers if not _named(name, words, initials))]))


def content_words(text: str) -> list[str]:
    """The words without case, accents and stop words."""
    return [word for word in _words(text) if word not in STOP_WORDS]


def _words(text: str) -> list[str]:
    plain = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return re.findall(r"\w+", "".join(plain).casefold())


def _without(text: str, start: int, written: str) -> str:
    return f"{text[:start]}{' ' * len(written)}{text[start + len(written) :]}"


@lru_cache(maxsize=64)
def _of_evidence(text: str) -> tuple[dict[str, list[float]], list[str], str]:
    """Its values by kind, its words in order, and the initials of its content words."""
    numbers = defaultdict[str, list[float]](list)
    for value in _values(text):
        for kind, number in value.readings:
            numbers[kind].append(number)
    return numbers, _words(text), "".join(word[0] for word in content_words(text))


def _values(text: str) -> Iterator[Value]:
    """Dates, then numbers outside of them."""
    for pattern in _DATES:
        for match in pattern.finditer(text):
            fields = {"year": None, "day": None, "month": None, **match.groupdict()}
            month = _MONTHS[fields["month"][:3].lower()] if fields["month"] else int(fields["number"])
            year, day = int(fields["year"] or 0), int(fields["day"] or 0)
            swapped = not fields["month"] and not match[0].startswith(fields["year"])  # 3/4/2021 has two readings
            days = [month * 100 + day, *([day * 100 + month] if swapped else [])]
            readings = [(kind, more + date) for date in days for kind, more in (("date", year * 1e4), ("day", 0.0))]
            ranges = [("date", year * 1e4 + date, year * 1e4 + date + (0 if day else 99)) for date in days]
            ranges = ranges if year else [("day", float(date), float(date)) for date in days]
            readings += [("", year), ("bare", year)] if year else []
            yield Value(match[0], match.start(), readings, ranges)
            text = _without(text, match.start(), match[0])
    matches = list(_NUMBER.finditer(text))
    for match, after in zip_longest(matches, matches[1:]):
        # The first end of a range has the unit and the scale of the second.
        tail = after if after and _BETWEEN.fullmatch(text, match.end(), after.start()) else match
        scale, letter, unit = (match[name] or tail[name] for name in ("scale", "letter", "unit"))
        if letter == "m" and not (match["money"] or tail["money"]):  # metres: a million is written $5m or 5M
            letter, unit = None, "m"
        factor = _LETTERS[letter.lower()] if letter else _SCALES[scale.lower()] if scale else 1.0
        digits = (match["digits"] or "").replace(",", "").replace("−", "-")
        number = float(digits) * factor if digits else _spelt(match["words"])
        below = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * factor if digits else 0.0  # what rounds to it agrees
        below = max(below, abs(number) * (APPROXIMATE if match["about"] else 1e-9))
        low, high = number - below, number + below
        if match["decade"]:  # the 1990s, the 1800s
            low, high = number, number + (9 if number % 100 else 99)
        kind, size, zero = _UNITS[unit.lower()] if unit else ("bare", 1.0, 0.0)
        ranges = [(kind, low * size + zero, high * size + zero), ("bare", low, high), ("bare", low * size, high * size)]
        start = match.start("digits" if digits else "words")
        readings = [(kind, number * size + zero), ("", number), ("", number * size)]
        yield Value(text[start : match.end()], start, readings, ranges if unit else [("", low, high)])


def _spelt(words: str) -> float:
    """Two hundred and fifty thousand: 250,000."""
    total = current = 0.0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in _SCALES:
            current = (current or 1.0) * _SCALES[word]
            total, current = (total + current, 0.0) if _SCALES[word] >= 1000 else (total, current)
        current += _WORDS.get(word, 0)
    return total + current


def _named(name: str, words: list[str], initials: str) -> bool:
    """Whether a name is among the words, inflected in another way or spelt out."""
    (folded,) = _words(name)
    if len(folded) == 1 or folded in STOP_WORDS or folded in words or folded.removesuffix("s") in words:
        return True
    if name.isupper() and len(folded) > 2:
        return folded in initials
    pairs = (sorted((folded, word), key=len) for word in words)
    return any(len(a) > 3 and b.startswith(a) and _INFLECTED.fullmatch(b[len(a) :]) for a, b in pairs)
