"""Numbers, dates, units, names and quoted words of a statement, normalised, and those that its evidence lacks.

    missing_values("It opened on 3 March 2021 with 1k seats.", "Opened 2021-03-03; one thousand seats")  # ()

1,000 = 1000 = one thousand = 1k, 5 km = 5000 m, 5% = 0.05. A rounded number agrees with what rounds to it (1.2 million
with 1,234,567), "about 300" with what is a tenth away. 3 March 2021 = 2021-03-03, and a part of a date agrees with the
whole. Names are compared word by word without case and accents: a last name alone agrees with the full one, WHO with
World Health Organization, Austrian with Austria; initials agree with everything.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from lmworks.retrieve.search import STOP_WORDS

APPROXIMATE = 0.1  # of its value, what "about" allows

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_WORDS |= {f"{word}th": value for word, value in _WORDS.items()} | {f"{word[:-1]}ieth": _WORDS[word] for word in _TENS}
_WORDS |= {word: value for value, word in enumerate(_ORDINALS, 1)}
_SCALES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SCALES |= {"": 1.0, "k": 1e3, "m": 1e6, "mn": 1e6, "bn": 1e9}
_IDIOMS = frozenset({"one", "first", "second"})  # that count nothing, most of the time

# names: what they measure, how much of its base unit one is, and where zero lies in that
_TABLE = (
    ("nm", "length", 1e-9), ("µm μm", "length", 1e-6), ("mm millimetre millimeter", "length", 1e-3),
    ("cm centimetre centimeter", "length", 1e-2), ("m metre meter", "length", 1.0), ("inch", "length", 0.0254),
    ("km kilometre kilometer", "length", 1e3), ("ft foot feet", "length", 0.3048), ("yard", "length", 0.9144),
    ("mi mile", "length", 1609.344), ("mg milligram", "mass", 1e-3), ("g gram", "mass", 1.0), ("kg", "mass", 1e3),
    ("kilogram", "mass", 1e3), ("tonne", "mass", 1e6), ("lb pound", "mass", 453.59237), ("oz ounce", "mass", 28.3495),
    ("ns nanosecond", "time", 1e-9), ("µs μs microsecond", "time", 1e-6), ("ms millisecond", "time", 1e-3),
    ("s sec second", "time", 1.0), ("min minute", "time", 60.0), ("h hr hour", "time", 3600.0),
    ("day", "time", 86400.0), ("week", "time", 604800.0), ("byte", "data", 1.0), ("kb kilobyte", "data", 1e3),
    ("mb megabyte", "data", 1e6), ("gb gigabyte", "data", 1e9), ("tb terabyte", "data", 1e12), ("kib", "data", 2**10),
    ("mib", "data", 2**20), ("gib", "data", 2**30), ("ml millilitre milliliter", "volume", 1e-3),
    ("l litre liter", "volume", 1.0), ("w watt", "power", 1.0), ("kw kilowatt", "power", 1e3), ("mw", "power", 1e6),
    ("gw gigawatt", "power", 1e9), ("hz hertz", "frequency", 1.0), ("khz", "frequency", 1e3), ("mhz", "frequency", 1e6),
    ("ghz", "frequency", 1e9), ("% percent", "share", 0.01),
)  # fmt: skip
_UNITS = {name: (kind, size, 0.0) for names, kind, size in _TABLE for name in names.split()}
_UNITS["per cent"] = _UNITS["%"]
_UNITS |= dict.fromkeys(("°c", "degrees celsius", "celsius"), ("temperature", 1.0, 273.15))
_UNITS |= dict.fromkeys(("°f", "degrees fahrenheit", "fahrenheit"), ("temperature", 5 / 9, 459.67 * 5 / 9))


_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_SCALE = "dozen|hundred|thousand|million|billion|trillion"
_WORD = "|".join(sorted((*_WORDS, *_SCALE.split("|")), key=len, reverse=True))
_NUMBER = re.compile(
    r"(?P<about>(?:\b(?:about|around|roughly|nearly|almost|over|(?:more|less|fewer) than|some|approximately)|~) ?)?"
    r"(?P<money>[$€£]\s?)?(?:(?<![\w.])(?P<digits>[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?:st|nd|rd|th|(?P<decade>s))?"
    rf"(?:[ -](?P<scale>{_SCALE})\b|(?P<letter>k|m|mn|bn)\b)?"
    rf"|\b(?P<words>(?:{_WORD})(?:[ -](?:and )?(?:{_WORD}))*)\b)(?:[ -]?(?P<unit>{_UNIT})(?:e?s)?(?!\w))?",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s?(?:[-–—]|to|and|or)\s?(?:[$€£])?")  # the two ends of a range
_NAMES = "january february march april may june july august september october november december".split()
_MONTHS = {name[:3]: number for number, name in enumerate(_NAMES, 1)}
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]}|t)?' for name in _NAMES)})\b\.?"
_DATE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>\d{4})[-/](?P<m>\d\d?)[-/](?P<day>\d\d?)\b",
        r"\b(?P<m>\d\d?)[/.](?P<day>\d\d?)[/.](?P<year>\d{4})\b",  # or the day first
        rf"\b(?P<day>\d\d?)(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? (?P<year>\d{{4}}))?\b",
        rf"\b{_MONTH} (?P<day>\d\d?)(?:st|nd|rd|th)?\b(?:,? (?P<year>\d{{4}})\b)?",
        rf"\b{_MONTH},? (?P<year>\d{{4}})\b",
    )
)
_Day = tuple[int, int, int]  # year, month, day; 0: not said
_QUOTE = re.compile(r"\"([^\"\n]{2,})\"|“([^”\n]{2,})”|`([^`\n]+)`")
_BEGINNING = re.compile(r"(?:\A|[.!?:;\n])[\s\"“”'‘(\[*`-]*\Z")  # before the first word of a sentence
_IDENTIFIER = re.compile(r"[a-z][A-Z]|\w_\w|[^\W\d]\d|\d[^\W\d]")
_CAPITAL = r"\b[A-ZÀ-ÖØ-Þ]\w*"
_RUN = re.compile(rf"{_CAPITAL}(?:(?: |-|\. ?| (?:of|for|and|the) ){_CAPITAL})*")
_INFLECTED = re.compile(r"s|es|n|an|ian|ish|ese|i|y|ic")  # Austria, Austrian; Spain's words do not agree with it


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is `written`: `bare * size + zero` of the base unit of its `kind` ("" for none).

    within  how far another one may be away: half of what its last digit stands for, and more behind "about"
    """

    written: str
    bare: float
    within: float
    kind: str = ""
    size: float = 1.0
    zero: float = 0.0

    def agrees(self, other: "Number") -> bool:
        """Whether evidence that says the `other` says this one; a number without a unit agrees with one that has it."""
        if "decade" in (self.kind, other.kind):
            return self.kind == "decade" and other.kind in ("", "decade") and self.bare // 10 == other.bare // 10
        same = self.kind == other.kind
        if self.kind and other.kind and not same:
            return False
        shift = self.zero - other.zero if same else 0.0
        return any(
            abs(self.bare * own - other.bare * its + shift) <= self.within * own + 1e-9 * abs(other.bare * its)
            for own, its in {(self.size, other.size), *([] if same else [(1.0, 1.0)])}
        )


def missing_values(statement: str, evidence: str) -> tuple[str, ...]:
    """The values of a statement that its evidence does not have, as they are written."""
    missing = list[str]()
    days, known, words, initials = _of_evidence(evidence)
    for start, end, readings in _dates(statement):
        if not any(_within(own, day) for own in readings for day in days):
            missing.append(statement[start:end])
        statement = _without(statement, start, end)
    for start, end, own in _numbers(statement):
        if own.written.lower() not in _IDIOMS and not any(own.agrees(other) for other in known):
            missing.append(own.written)
        statement = _without(statement, start, end)
    said = f" {' '.join(words)} "
    missing += [quote[0] for quote in _QUOTE.finditer(statement) if f" {' '.join(_words(quote[0]))} " not in said]
    for run in _names(statement):
        if len(run) < 2 or "".join(name[0] for name in run).lower() not in words:  # WHO stands for all three
            missing += [name for name in run if not _named(name, words, initials)]
    return tuple(missing)


def folded(text: str) -> str:
    """Without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


def content_words(text: str) -> list[str]:
    """The words without case, accents and stop words."""
    return [word for word in _words(text) if word not in STOP_WORDS]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", folded(text))


def _without(text: str, start: int, end: int) -> str:
    return f"{text[:start]}{' ' * (end - start)}{text[end:]}"


@lru_cache(maxsize=64)
def _of_evidence(text: str) -> tuple[list[_Day], list[Number], list[str], str]:
    """Its days, numbers, words in order, and their initials without stop words."""
    words = _words(text)
    initials = "".join(word[0] for word in content_words(text))
    days = [day for _, _, readings in _dates(text) for day in readings]
    return days, [number for *_, number in _numbers(text)], words, initials


def _dates(text: str) -> Iterator[tuple[int, int, list[_Day]]]:
    """The range of each date and its readings: 3/4/2021 has two. A year alone is a number."""
    for pattern in _DATE:
        for found in pattern.finditer(text):
            part = {"year": None, "day": None, "m": None, **found.groupdict()}
            month = _MONTHS[part["month"][:3].lower()] if part.get("month") else int(part["m"])
            year, day = int(part["year"] or 0), int(part["day"] or 0)
            swapped = not part.get("month") and not found[0].startswith(part["year"])
            yield *found.span(), [(year, month, day), *([(year, day, month)] if swapped else [])]
            text = _without(text, *found.span())


def _within(own: _Day, known: _Day) -> bool:
    """Whether each part of a day that is said is the one that is known."""
    return all(one in (0, other) for one, other in zip(own, known, strict=True))


def _numbers(text: str) -> list[tuple[int, int, Number]]:
    """The range of each number; the first end of a range has the unit and the scale of the second."""
    found = list(_NUMBER.finditer(text))
    result = list[tuple[int, int, Number]]()
    for one, after in zip_longest(found, found[1:]):
        tail = after if after and _BETWEEN.fullmatch(text, one.end(), after.start()) else one
        scale, letter, unit = (one[name] or tail[name] for name in ("scale", "letter", "unit"))
        if letter == "m" and not (one["money"] or tail["money"]):  # metres: a million is written $5m or 5M
            letter, unit = None, "m"
        factor = _SCALES[(scale or letter or "").lower()]
        digits = (one["digits"] or "0").replace(",", "").replace("−", "-")
        bare = float(digits) * factor if one["digits"] else _spelt(one["words"])
        within = 0.5 * 10.0 ** -len(digits.partition(".")[2]) * factor if one["digits"] else 0.0
        within = max(within, APPROXIMATE * abs(bare)) if one["about"] else within
        kind, size, zero = _UNITS[unit.lower()] if unit else ("decade" if one["decade"] else "", 1.0, 0.0)
        start = one.start("digits" if one["digits"] else "words")
        result.append((start, one.end(), Number(text[start : one.end()], bare, within, kind, size, zero)))
    return result


def _spelt(words: str) -> float:
    """Two hundred and fifty thousand: 250,000."""
    whole = part = 0.0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in _WORDS:
            part += _WORDS[word]
        elif word in _SCALES:
            part = (part or 1.0) * _SCALES[word]
            whole, part = (whole + part, 0.0) if _SCALES[word] >= 1000 else (whole, part)
    return whole + part


def _names(text: str) -> Iterator[list[str]]:
    """Runs of words with a capital, without the one that begins a sentence, and names as code has them."""
    for run in _RUN.finditer(text):
        parts = re.findall(_CAPITAL, run[0])
        yield parts[1:] if _BEGINNING.search(text, 0, run.start()) else parts
    yield from ([word] for word in re.findall(r"\w+", text) if _IDENTIFIER.search(word))


def _named(name: str, words: Collection[str], initials: str) -> bool:
    """Whether a name is among the words, inflected in another way or spelt out."""
    own = folded(name)
    if len(own) == 1 or own in words or own in STOP_WORDS:
        return True
    if name.isupper() and len(own) > 2:
        return own in initials
    for one, other in (sorted((own, word), key=len) for word in words):
        if len(one) > 3 and other.startswith(one) and _INFLECTED.fullmatch(other[len(one) :]):
            return True
    return False
