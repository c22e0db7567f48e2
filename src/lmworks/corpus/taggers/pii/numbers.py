"""Numbers that belong to a person: payment cards, bank accounts, and those by which some states know people.

Cards have a network's prefix and length (ISO/IEC 7812) and Luhn's check digit, which one random number in ten passes:
so short ones, which are often something else, score less. Check digits and forms of accounts (ISO 13616) and of states'
numbers are those of `python-stdnum`; words such as `SSN` in front of a number say what it is.
"""

import re
from collections.abc import Callable, Iterator

from stdnum import iban, luhn
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.us import itin, ssn

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.pii.addresses import Regions, before

CARD, IBAN, SSN, NATIONAL = "pii.card", "pii.iban", "pii.ssn", "pii.national_id"

# ---------------------------------------------------------------------------------------------------------------------
# Payment cards

PATTERNS = read_patterns(__file__)

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
        for match in PATTERNS["card_written"].finditer(text, region_start, region_end + 2):
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
    return score if score and luhn.is_valid(digits) else 0.0


def _longest(text: str, start: int, end: int, grouped: bool) -> tuple[float, int]:
    """Score and end. Three digits behind four groups are part of a long number, or the code from the back of a card."""
    more = PATTERNS["last_three"].match(text, end, end + 5) if grouped else None
    is_called = bool(PATTERNS["card_words"].search(before(text, start)))
    for stop in (*((more.end(),) if more else ()), end):
        digits = PATTERNS["no_digit"].sub("", text[start:stop])
        score = card_score(digits)
        if not score and is_called and len(digits) == 16 and luhn.is_valid(digits):
            return 0.6, stop
        if score:
            if is_called:
                return 0.95, stop
            # Groups of four that go on on either side: a row of a table has such groups.
            group_before = PATTERNS["group_before"].search(text, max(0, start - 6), start)
            in_series = group_before or PATTERNS["group_after"].match(text, stop)
            return (min(score, 0.5) if grouped and in_series else score), stop
    return 0.0, end


# ---------------------------------------------------------------------------------------------------------------------
# Bank accounts


def find_ibans(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of account numbers, upper or lower case, whose first check digit each region begins with."""
    for digit, _ in regions:
        if digit >= 2 and (written := PATTERNS["iban"].match(text, digit - 2, digit + 70)):
            for end, compact in whole_groups(text, *written.span()):
                if iban.is_valid(compact, check_country=False):
                    yield TaggedSpan(IBAN, digit - 2, end, 0.99)
                    break


def whole_groups(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    """The end of each group of a number and the number up to there, without gaps, the longest first: what stands behind
    a number may look like a further group."""
    for stop in (end, *(start + gap.start() for gap in reversed([*PATTERNS["gap"].finditer(text[start:end])]))):
        yield stop, PATTERNS["gap"].sub("", text[start:stop])


# ---------------------------------------------------------------------------------------------------------------------
# Numbers of states

_NO_PREFIX = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})  # of national insurance: never given
_NAMED = 0.95  # the score of a number that a word in front calls what it is


def find_numbers(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of national numbers in regions of digits and what separates them."""
    for start, end in regions:
        for match in _WRITTEN.finditer(text, max(0, start - 2), end + 4):
            rule, is_valid, words, _, score = _STATES[(match.lastindex or 0) - 1]
            if is_valid(PATTERNS["gaps"].sub("", match[0])):
                score = _NAMED if words.search(before(text, match.start())) else score
                if score:
                    yield TaggedSpan(rule, *match.span(), score)


def find_lettered_numbers(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of national insurance numbers (United Kingdom) and codici fiscali (Italy).

    Each region begins with the first digit, behind two letters and perhaps a space, or behind six letters.
    """
    for digit, _ in regions:
        for start in (digit - 2, digit - 3, digit - 6):
            match = PATTERNS["lettered"].match(text, start, start + 20) if start >= 0 else None
            if match is None or (start and (text[start - 1].isalnum() or text[start - 1] == "_")):
                continue
            if match.lastgroup == "nino" and match[0][:2] not in _NO_PREFIX:
                yield TaggedSpan(NATIONAL, *match.span(), 0.8)
            elif match.lastgroup == "fiscale" and codicefiscale.is_valid(match[0]):
                yield TaggedSpan(NATIONAL, *match.span(), _NAMED)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_State = tuple[str, Callable[[str], bool], re.Pattern[str]]  # rule, check digits, words that may stand in front
_OF_USA: _State = (
    SSN,
    lambda number: ssn.is_valid(number) or itin.is_valid(number),
    _words(r"ssn|itin|social security|taxpayer"),
)
_OF_INDIA: _State = NATIONAL, aadhaar.is_valid, _words("aadhaar|aadhar|uidai|uid")
_OF_SPAIN: _State = NATIONAL, lambda number: dni.is_valid(number) or nie.is_valid(number), _words("dni|nif|nie")
_OF_GERMANY: _State = NATIONAL, idnr.is_valid, _words("steuer-?id|idnr|identifikationsnummer|tax id")
_OF_FRANCE: _State = NATIONAL, nir.is_valid, _words("nir|insee|sécurité sociale")
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
    # Months that are not known go up to 42.
    (*_OF_FRANCE, r"[1-478] [0-9]{2} (?:0[1-9]|[1-3][0-9]|4[0-2]) [0-9]{2} [0-9]{3} [0-9]{3} ?[0-9]{2}", 0.9),
    (*_OF_FRANCE, r"[1-478][0-9]{2}(?:0[1-9]|[1-3][0-9]|4[0-2])[0-9]{10}", 0.9),
)
_WRITTEN = re.compile(
    r"(?<![\w+])(?<![0-9][.,-])(?:" + "|".join(f"({form})" for *_, form, _ in _STATES) + r")(?!\w|[.,-][0-9])"
)
