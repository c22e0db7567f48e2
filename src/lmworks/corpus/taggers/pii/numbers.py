"""Numbers that belong to a person: payment cards, bank accounts, and those by which some states know people.

Cards have a network's prefix and length (ISO/IEC 7812) and Luhn's check digit, which one random number in ten passes:
so short ones, which are often something else, score less. Accounts (IBAN, ISO 13616) have their country's length, and a
remainder modulo 97. A state's number follows from its form, its check digits, and words such as `SSN` in front of it.
"""

import re
import string
from collections.abc import Callable, Iterator, Mapping
from functools import cache

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


def modulo_11_10(digits: str) -> bool:
    """ISO/IEC 7064, MOD 11,10 (section 8)."""
    product = 10
    for digit in digits[:-1]:
        product = 2 * ((int(digit) + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[-1])


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
    """The product in the numbering of Verhoeff: 0 to 4 are rotations, 5 to 9 reflections."""
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
    """The score of digits as the number of a card: 0 where the check, the length or the prefix says no."""
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
    """A pattern of so many letters and digits, at most one gap between two of them."""
    return re.compile(rf"(?:[A-Za-z0-9][ \u00a0-]?){{{length - 1}}}[A-Za-z0-9](?![A-Za-z0-9])")


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of states

_NO_PREFIX = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})  # of national insurance: never given
_NAMED = 0.95  # the score of a number that a word in front calls what it is


def find_numbers(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of national numbers in regions of digits and what separates them."""
    for start, end in regions:
        for match in _WRITTEN.finditer(text, max(0, start - 2), end + 4):
            rule, is_valid, words, _, score = _STATES[(match.lastindex or 0) - 1]
            if is_valid(_GAPS.sub("", match[0])):
                score = _NAMED if words.search(before(text, match.start())) else score
                if score:
                    yield TaggedSpan(rule, *match.span(), score)


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


def is_aadhaar(digits: str) -> bool:
    """India: Verhoeff; the first digit is 2 or above."""
    return digits[0] >= "2" and verhoeff(digits)


def is_dni(compact: str) -> bool:
    """Spain, citizens and foreigners: a letter for the number modulo 23; X, Y and Z in front stand for 0, 1 and 2."""
    first = str("XYZ".find(compact[0].upper())) if compact[0].isalpha() else compact[0]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(first + compact[1:8]) % 23] == compact[8].upper()


def is_steuer_id(digits: str) -> bool:
    """Germany: ISO 7064 MOD 11,10; of the first ten digits one occurs twice or three times, the others once at most."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return digits[0] != "0" and counts[-1] in (2, 3) and counts[:-1] == [1] * (len(counts) - 1) and modulo_11_10(digits)


def is_nir(digits: str) -> bool:
    """France: the last two digits make the rest a multiple of 97; months that are not known go up to 42."""
    return digits[0] in "123478" and int(digits[:13]) % 97 == 97 - int(digits[13:]) and "01" <= digits[3:5] <= "42"


def is_codice_fiscale(code: str) -> bool:
    """Italy: a letter for the sum modulo 26 of values, which are others at odd places than at even ones."""
    values = [int(character) if character.isdigit() else ord(character) - ord("A") for character in code[:15]]
    return chr(ord("A") + (sum(_ODD[value] for value in values[::2]) + sum(values[1::2])) % 26) == code[15]


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_State = tuple[str, Callable[[str], bool], re.Pattern[str]]  # rule, check digits, words that may stand in front
_OF_USA: _State = SSN, is_ssn, _words(r"ssn|itin|social security|taxpayer")
_OF_INDIA: _State = NATIONAL, is_aadhaar, _words("aadhaar|aadhar|uidai|uid")
_OF_SPAIN: _State = NATIONAL, is_dni, _words("dni|nif|nie")
_OF_GERMANY: _State = NATIONAL, is_steuer_id, _words("steuer-?id|idnr|identifikationsnummer|tax id")
_OF_FRANCE: _State = NATIONAL, is_nir, _words("nir|insee|sécurité sociale")
# How it is written, and the score where no word in front says what it is.
_STATES: tuple[tuple[str, Callable[[str], bool], re.Pattern[str], str, float], ...] = (
    (*_OF_USA, r"[0-9]{3}-[0-9]{2}-[0-9]{4}", 0.9),
    (*_OF_USA, r"[0-9]{3} [0-9]{2} [0-9]{4}", 0.3),
    (*_OF_USA, r"[0-9]{9}", 0),
    (*_OF_INDIA, r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", 0.4),
    (*_OF_INDIA, r"[0-9]{12}", 0),
    (*_OF_SPAIN, r"[XYZxyz]-?[0-9]{7}-?[A-Za-z]", 0.8),
    (*_OF_SPAIN, r"[0-9]{8}-?[A-Za-z]", 0.6),
    (*_OF_GERMANY, r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}", 0.7),
    (*_OF_GERMANY, r"[0-9]{11}", 0.3),
    (*_OF_FRANCE, r"[1-478] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3} ?[0-9]{2}", 0.9),
    (*_OF_FRANCE, r"[0-9]{15}", 0.9),
)
_WRITTEN = re.compile(
    r"(?<![\w+])(?<![0-9][.,-])(?:" + "|".join(f"({form})" for *_, form, _ in _STATES) + r")(?!\w|[.,-][0-9])"
)
_GAPS = re.compile("[ .+-]")
_LETTERED = re.compile(
    r"(?P<nino>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D])(?!\w)"
    r"|(?P<fiscale>[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z])(?!\w)"
)
