"""Numbers that belong to a person: payment cards, bank accounts, and those by which states know people.

Payment cards have the lengths and prefixes of the networks (ISO/IEC 7812), and Luhn's check digit. Written in one, or
in the groups of the embossing: 4-4-4-4, with three more, or 4-6-4 and 4-6-5. Of random digits with a prefix and a
length, one in ten passes the check: so shorter numbers, which are often something else, score less. Sixteen digits of
no network's that pass are one only where the text calls them a card: prefixes are given out anew.

Bank accounts (IBAN, ISO 13616) have the length of their country, and a remainder modulo 97.

Which form the number of a state has is read off the text; which number it could be follows from the check digits, and
how likely that is from the form (`123-45-6789` against nine digits in a row) and from words such as `SSN` in front of
it. Nine or eleven digits in a row are often something else; without such a word they score below one half.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.taggers.pii.addresses import Regions, before

CARD, IBAN, SSN, NATIONAL = "pii.card", "pii.iban", "pii.ssn", "pii.national_id"

# ---------------------------------------------------------------------------------------------------------------------
# Check digits: the arithmetic by which a number shows that it is not any number

_DOUBLED = str.maketrans("0123456789", "0246813579")  # 7 → 14 → 1 + 4
_VERHOEFF = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled, and the digits of all add up to tens."""
    return (sum(map(int, digits[::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0


def weighted_sum(digits: str, weights: Iterable[int]) -> int:
    """Of as many products as there are weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def modulo_11_10(digits: str) -> bool:
    """ISO/IEC 7064, MOD 11,10 (section 8)."""
    product = 10
    for digit in digits[:-1]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[-1])


def modulo_11_2(text: str) -> bool:
    """ISO/IEC 7064, MOD 11-2 (section 7): digits, the last of which may be X for 10."""
    total = 0
    for character in text:
        total = (2 * total + (10 if character in "Xx" else int(character))) % 11
    return total == 1


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969, "Error Detecting Decimal Codes": products in the dihedral group of ten elements."""
    total = 0
    for place, character in enumerate(reversed(digits)):
        digit = int(character)
        for _ in range(place % 8):
            digit = _VERHOEFF[digit]
        total = _dihedral_product(total, digit)
    return total == 0


def _dihedral_product(first: int, second: int) -> int:
    """In the numbering of Verhoeff: 0 to 4 are rotations, 5 to 9 reflections."""
    if first < 5:
        return (first + second) % 5 + (5 if second >= 5 else 0)
    return (first - second) % 5 + (5 if second < 5 else 0)


# ---------------------------------------------------------------------------------------------------------------------
# Payment cards

# Looked for at every start of a group, since what stands in front may look like a group as well.
_CARD_WRITTEN = re.compile(
    r"(?<![\w+])(?<![0-9]\.)(?=(?P<number>[0-9]{12,19}"
    r"|[0-9]{4}(?P<gap>[ \u00a0-])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}"
    r"|[0-9]{4}(?P<wide>[ \u00a0-])[0-9]{6}(?P=wide)[0-9]{4,5})(?!\w|\.[0-9]))"
)
_LAST_THREE = re.compile(r"[ \u00a0-][0-9]{3}(?!\w)")
_GROUP_BEFORE = re.compile(r"(?<![0-9])[0-9]{4}[ \u00a0-]\Z")
_GROUP_AFTER = re.compile(r"[ \u00a0-][0-9]{4}(?![0-9])")
_CARD_WORDS = re.compile(r"\b(?:cards?|credit|debit|visa|mastercard|amex|maestro|cc|pan)\b", re.IGNORECASE)
_NO_DIGIT = re.compile(r"[^0-9]")

# First and last prefix, shortest and longest number, score.
_NETWORKS: tuple[tuple[str, str, int, int, float], ...] = (
    # Visa; of old 13 digits, and codes of goods (EAN-13) begin with 4 as well.
    ("4", "4", 16, 16, 0.95), ("4", "4", 19, 19, 0.95), ("4", "4", 13, 13, 0.5),
    ("51", "55", 16, 16, 0.95), ("2221", "2720", 16, 16, 0.95),  # Mastercard
    ("34", "34", 15, 15, 0.95), ("37", "37", 15, 15, 0.95),  # American Express
    # Diners Club
    ("300", "305", 14, 19, 0.8), ("3095", "3095", 14, 19, 0.8), ("36", "36", 14, 19, 0.8), ("38", "39", 14, 19, 0.8),
    ("6011", "6011", 16, 19, 0.95), ("644", "649", 16, 19, 0.8), ("65", "65", 16, 19, 0.8),  # Discover
    ("62", "62", 16, 19, 0.8),  # UnionPay
    ("3528", "3589", 16, 19, 0.95), ("1800", "1800", 15, 15, 0.5), ("2131", "2131", 15, 15, 0.5),  # JCB
    ("2200", "2204", 16, 19, 0.8),  # Mir
    ("9792", "9792", 16, 16, 0.8),  # Troy
    # Maestro
    ("50", "50", 16, 19, 0.8), ("56", "58", 16, 19, 0.8), ("63", "63", 16, 19, 0.8), ("67", "67", 16, 19, 0.8),
    ("50", "50", 12, 15, 0.5), ("56", "58", 12, 15, 0.5), ("6304", "6304", 12, 15, 0.5), ("6759", "6763", 12, 15, 0.5),
    ("0604", "0604", 12, 19, 0.5),
)  # fmt: skip


def find_cards(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of card numbers in regions of digits and what separates them."""
    for region_start, region_end in regions:
        for match in _CARD_WRITTEN.finditer(text, region_start, region_end + 2):
            start, end = match.span("number")
            score, end = _longest(text, start, end, grouped=match["gap"] is not None)
            if score:
                yield TaggedSpan(CARD, start, end, score)


def card_score(digits: str) -> float:
    """How likely so many digits are a card's number: 0 where the check, the length or the prefix says no."""
    score = max(
        (
            score
            for first, last, shortest, longest, score in _NETWORKS
            if shortest <= len(digits) <= longest and first <= digits[: len(first)] <= last
        ),
        default=0.0,
    )
    return score if score and luhn(digits) else 0.0


def _longest(text: str, start: int, end: int, grouped: bool) -> tuple[float, int]:
    """Score and end. Three digits behind four groups are part of a long number, or the code from the back of a card."""
    more = _LAST_THREE.match(text, end, end + 5) if grouped else None
    is_called = bool(_CARD_WORDS.search(before(text, start)))
    for stop in (*((more.end(),) if more else ()), end):
        digits = _NO_DIGIT.sub("", text[start:stop])
        score = card_score(digits)
        if not score and is_called and len(digits) == 16 and luhn(digits):
            return 0.6, stop
        if score:
            if is_called:
                return 0.95, stop
            return (min(score, 0.5) if grouped and _in_series(text, start, stop) else score), stop
    return 0.0, end


def _in_series(text: str, start: int, end: int) -> bool:
    """Whether groups of four go on on either side: a row of a table has such groups."""
    return bool(_GROUP_BEFORE.search(text, max(0, start - 6), start) or _GROUP_AFTER.match(text, end, end + 6))


# ---------------------------------------------------------------------------------------------------------------------
# Bank accounts

# SWIFT's IBAN registry, release 99: country → characters.
LENGTHS: Mapping[str, int] = {
    code[:2]: int(code[2:])
    for code in """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
    FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32
    LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24
    RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
    """.split()
}
_BASE_36 = {ord(letter): str(int(letter, 36)) for letter in string.ascii_letters}
_IBAN_GAP = re.compile("[ \u00a0-]")


def find_ibans(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of account numbers, upper or lower case, whose first check digit each region begins with."""
    for digit, _ in regions:
        start = digit - 2
        length = LENGTHS.get(text[max(0, start) : digit].upper())
        written = _iban_of(length).match(text, start, start + 2 * length) if length else None
        if written is not None and is_iban(_IBAN_GAP.sub("", written[0])):
            yield TaggedSpan(IBAN, start, written.end(), 0.99)


def is_iban(compact: str) -> bool:
    """Whether letters and digits without gaps have the length of their country and leave 1 modulo 97."""
    if LENGTHS.get(compact[:2].upper()) != len(compact) or not (compact.isascii() and compact.isalnum()):
        return False
    return compact[2:4].isdigit() and passes_check(compact)


def passes_check(compact: str) -> bool:
    """ISO 13616: with the first four characters at the end and letters as 10 to 35, modulo 97 leaves 1."""
    return int((compact[4:] + compact[:4]).translate(_BASE_36)) % 97 == 1


@cache
def _iban_of(length: int) -> re.Pattern[str]:
    """So many letters and digits, at most one gap between two of them."""
    return re.compile(rf"(?:[A-Za-z0-9][ \u00a0-]?){{{length - 1}}}[A-Za-z0-9](?![A-Za-z0-9])")


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of states

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
_NAMED, _SURE, _LIKELY, _UNLIKELY, _NO = 0.95, 0.9, 0.7, 0.3, 0.0


def find_numbers(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of national numbers in regions of digits and what separates them."""
    for start, end in regions:
        for match in _WRITTEN.finditer(text, max(0, start - 2), end + 4):
            form = _NAMES[match.lastindex or 0]
            compact = _GAPS.sub("", match[0])
            best = max(
                (_score(scheme, form, compact, text, match.start()) for scheme in _SCHEMES if form in scheme.forms),
                default=(_NO, ""),
            )
            if best[0]:
                yield TaggedSpan(best[1], *match.span(), best[0])


def find_lettered_numbers(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of national insurance numbers (United Kingdom) and codici fiscali (Italy).

    Each region begins with the first digit, behind two letters and perhaps a space, or behind six letters.
    """
    for digit, _ in regions:
        for start in (digit - 2, digit - 3, digit - 6):
            match = _LETTERED.match(text, start, start + 20) if start >= 0 else None
            if match is None or (start and (text[start - 1].isalnum() or text[start - 1] == "_")):
                continue
            if match.lastgroup == "nino" and match[0][:2] not in _NO_PREFIX:
                yield TaggedSpan(NATIONAL, *match.span(), 0.8)
            elif match.lastgroup == "fiscale" and is_codice_fiscale(match[0]):
                yield TaggedSpan(NATIONAL, *match.span(), _NAMED)


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
    named = scheme.words.search(before(text, start))
    return (_NAMED if named else scheme.forms[form]), scheme.rule
