"""Numbers by which states know people: those whose check digits, ranges or form tell them from other numbers.

Which form a number has is read off the text; which number it could be follows from the check digits, and how likely
that is from the form (`123-45-6789` against nine digits in a row) and from words such as `SSN` in front of it. Nine or
eleven digits in a row are often something else; without such a word they score below one half.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from lmworks.data.annotate.pii.checksums import luhn, modulo_11_2, modulo_11_10, verhoeff, weighted_sum
from lmworks.data.annotate.pii.context import Regions, before
from lmworks.data.annotation import Mark

SSN, NATIONAL = "pii.ssn", "pii.national_id"

_FORMS = {
    "3-2-4": r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
    "3 2 4": r"[0-9]{3} [0-9]{2} [0-9]{4}",
    "3-3-3": r"[0-9]{3}-[0-9]{3}-[0-9]{3}",
    "3 3 3": r"[0-9]{3} [0-9]{3} [0-9]{3}",
    "3.3.3-2": r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
    "4 4 4": r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}",
    "6-4": r"(?:[0-9]{2})?[0-9]{6}[+-][0-9]{4}",
    "2 3 3 3": r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}",
    "insee": r"[1-478] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3} ?[0-9]{2}",
    "nie": r"[XYZxyz]-?[0-9]{7}-?[A-Za-z]",
    "dni": r"[0-9]{8}-?[A-Za-z]",
    "17x": r"[0-9]{17}[0-9Xx]",
    "run": r"[0-9]{9,15}",
}
_WRITTEN = re.compile(
    r"(?<![\w+])(?<![0-9][.,-])(?:" + "|".join(f"({form})" for form in _FORMS.values()) + r")(?!\w|[.,-][0-9])"
)
_NAMES = ("", *_FORMS)  # of the groups
_LETTERED = re.compile(
    r"(?P<nino>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D])(?!\w)"
    r"|(?P<fiscale>[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z])(?!\w)"
)
_NO_PREFIX = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})  # of national insurance: never given
_GAPS = re.compile("[ .+-]")
_NAMED, _SURE, _LIKELY, _EVEN, _UNLIKELY, _NO = 0.95, 0.9, 0.7, 0.5, 0.3, 0.0
_IN_SIGHT = 40


def find_numbers(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of national numbers in regions of digits and what separates them."""
    for start, end in regions:
        for match in _WRITTEN.finditer(text, max(0, start - 2), end + 4):
            form = _NAMES[match.lastindex or 0]
            compact = _GAPS.sub("", match[0])
            best = max(
                (_score(scheme, form, compact, text, match.start()) for scheme in _SCHEMES if form in scheme.forms),
                default=(_NO, ""),
            )
            if best[0]:
                yield Mark(best[1], *match.span(), best[0])


def find_lettered_numbers(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of national insurance numbers (United Kingdom) and codici fiscali (Italy).

    Each region begins with the first digit, behind two letters and perhaps a space, or behind six letters.
    """
    for digit, _ in regions:
        for start in (digit - 2, digit - 3, digit - 6):
            match = _LETTERED.match(text, start, start + 20) if start >= 0 else None
            if match is None or (start and (text[start - 1].isalnum() or text[start - 1] == "_")):
                continue
            if match.lastgroup == "nino" and match[0][:2] not in _NO_PREFIX:
                yield Mark(NATIONAL, *match.span(), 0.8)
            elif match.lastgroup == "fiscale" and is_codice_fiscale(match[0]):
                yield Mark(NATIONAL, *match.span(), _NAMED)


def is_ssn(digits: str) -> bool:
    """United States: areas 000, 666 and above 899, group 00 and serial 0000 are not given (SSA, randomisation of 2011);
    nor are two that advertisements made known. Individual taxpayers' numbers (ITIN) take part of the areas from 900."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if serial == "0000" or digits in ("078051120", "219099999"):
        return False
    if area >= "900":
        return "50" <= group <= "65" or "70" <= group <= "88" or "90" <= group <= "92" or "94" <= group <= "99"
    return area not in ("000", "666") and group != "00"


def is_sin(digits: str) -> bool:
    """Canada: Luhn; a first digit 0 or 8 is not given to people."""
    return digits[0] not in "08" and luhn(digits)


def is_cpf(digits: str) -> bool:
    """Brazil: two check digits modulo 11, the second over the first; eleven equal digits pass, and are nobody's."""
    first = weighted_sum(digits, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted_sum(digits, range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}" and len(set(digits)) > 1


def is_aadhaar(digits: str) -> bool:
    """India: Verhoeff; the first digit is 2 or above."""
    return digits[0] >= "2" and verhoeff(digits)


def is_personnummer(digits: str) -> bool:
    """Sweden: a date of birth, whose day has 60 added for coordination numbers, and Luhn over the last ten digits."""
    digits = digits[-10:]
    return _is_day(digits[2:4], f"{int(digits[4:6]) % 60:02}") and luhn(digits)


def is_dni(compact: str) -> bool:
    """Spain, citizens and foreigners: a letter for the number modulo 23; X, Y and Z in front stand for 0, 1 and 2."""
    first = str("XYZ".find(compact[0].upper())) if compact[0].isalpha() else compact[0]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(first + compact[1:8]) % 23] == compact[8].upper()


def is_steuer_id(digits: str) -> bool:
    """Germany: ISO 7064 MOD 11,10; of the first ten digits one occurs twice or three times, the others once at most."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return digits[0] != "0" and counts[-1] in (2, 3) and counts[:-1] == [1] * (len(counts) - 1) and modulo_11_10(digits)


def is_pesel(digits: str) -> bool:
    """Poland: a date of birth, whose month has 20, 40, 60 or 80 added for other centuries, and a weighted sum."""
    month = f"{int(digits[2:4]) % 20:02}"
    return _is_day(month, digits[4:6]) and weighted_sum(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def is_bsn(digits: str) -> bool:
    """The Netherlands: the "eleven test"."""
    return weighted_sum(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and digits != "000000000"


def is_nir(digits: str) -> bool:
    """France: the last two digits make the rest a multiple of 97; months that are not known go up to 42."""
    return digits[0] in "123478" and int(digits[:13]) % 97 == 97 - int(digits[13:]) and "01" <= digits[3:5] <= "42"


def is_resident_id(compact: str) -> bool:
    """China (GB 11643): a date of birth, and ISO 7064 MOD 11-2."""
    return compact[6:8] in ("19", "20") and _is_day(compact[10:12], compact[12:14]) and modulo_11_2(compact)


def is_codice_fiscale(code: str) -> bool:
    """Italy: a letter for the sum modulo 26 of values, which are others at odd places than at even ones."""
    odd = sum(_ODD[_value(character)] for character in code[:15:2])
    even = sum(_value(character) for character in code[1:15:2])
    return chr(ord("A") + (odd + even) % 26) == code[15]


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _value(character: str) -> int:
    return int(character) if character.isdigit() else ord(character) - ord("A")


def _is_day(month: str, day: str) -> bool:
    return "01" <= month <= "12" and "01" <= day <= "31"


class _Scheme(NamedTuple):
    """A kind of number: `forms` it is written in, with the score of each where no word in front says what it is."""

    rule: str
    valid: Callable[[str], bool]
    lengths: tuple[int, ...]
    forms: Mapping[str, float]
    words: re.Pattern[str]


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_SCHEMES = (
    _Scheme(
        SSN, is_ssn, (9,), {"3-2-4": _SURE, "3 2 4": _UNLIKELY, "run": _NO},
        _words(r"ssn|itin|social security|taxpayer"),
    ),
    _Scheme(
        NATIONAL, is_sin, (9,), {"3-3-3": _LIKELY, "3 3 3": _UNLIKELY, "run": _NO}, _words("sin|nas|social insurance")
    ),
    _Scheme(NATIONAL, is_cpf, (11,), {"3.3.3-2": _NAMED, "run": _NO}, _words("cpf")),
    _Scheme(NATIONAL, is_aadhaar, (12,), {"4 4 4": 0.4, "run": _NO}, _words("aadhaar|aadhar|uidai|uid")),
    _Scheme(NATIONAL, is_personnummer, (10, 12), {"6-4": _LIKELY, "run": _NO}, _words("personnummer|personal number")),
    _Scheme(NATIONAL, is_dni, (9,), {"nie": 0.8, "dni": 0.6}, _words("dni|nif|nie")),
    _Scheme(
        NATIONAL, is_steuer_id, (11,), {"2 3 3 3": _LIKELY, "run": _UNLIKELY},
        _words("steuer-?id|idnr|identifikationsnummer|tax id"),
    ),
    _Scheme(NATIONAL, is_pesel, (11,), {"run": _UNLIKELY}, _words("pesel")),
    _Scheme(NATIONAL, is_bsn, (9,), {"run": _NO}, _words("bsn|burgerservicenummer|sofi")),
    _Scheme(NATIONAL, is_nir, (15,), {"insee": _SURE, "run": _SURE}, _words("nir|insee|sécurité sociale")),
    _Scheme(NATIONAL, is_resident_id, (18,), {"17x": _NAMED}, _words("身份证")),
)  # fmt: skip


def _score(scheme: _Scheme, form: str, compact: str, text: str, start: int) -> tuple[float, str]:
    if len(compact) not in scheme.lengths or not scheme.valid(compact):
        return _NO, ""
    named = scheme.words.search(before(text, start, _IN_SIGHT))
    return (_NAMED if named else scheme.forms[form]), scheme.rule
