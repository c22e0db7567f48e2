"""Payment cards: the lengths and prefixes of the networks (ISO/IEC 7812), and Luhn's check digit.

Written in one, or in the groups of the embossing: 4-4-4-4, with three more, or 4-6-4 and 4-6-5. Of random digits with a
prefix and a length, one in ten passes the check. So shorter numbers, which are often something else, score less.
Sixteen digits of no network's that pass are one only where the text calls them a card: prefixes are given out anew.
"""

import re
from collections.abc import Iterator

from lmworks.data.annotate.pii.checksums import luhn
from lmworks.data.annotate.pii.context import Regions, before
from lmworks.data.annotation import Mark

RULE = "pii.card"

# Looked for at every start of a group, since what stands in front may look like a group as well.
_WRITTEN = re.compile(
    r"(?<![\w+])(?<![0-9]\.)(?=(?P<number>[0-9]{12,19}"
    r"|[0-9]{4}(?P<gap>[ \u00a0-])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}"
    r"|[0-9]{4}(?P<wide>[ \u00a0-])[0-9]{6}(?P=wide)[0-9]{4,5})(?!\w|\.[0-9]))"
)
_LAST_THREE = re.compile(r"[ \u00a0-][0-9]{3}(?!\w)")
_GROUP_BEFORE = re.compile(r"(?<![0-9])[0-9]{4}[ \u00a0-]\Z")
_GROUP_AFTER = re.compile(r"[ \u00a0-][0-9]{4}(?![0-9])")
_WORDS = re.compile(r"\b(?:cards?|credit|debit|visa|mastercard|amex|maestro|cc|pan)\b", re.IGNORECASE)
_NO_DIGIT = re.compile(r"[^0-9]")
_SURE, _LIKELY, _CALLED, _EVEN = 0.95, 0.8, 0.6, 0.5

# First and last prefix, shortest and longest number, score.
_NETWORKS: tuple[tuple[str, str, int, int, float], ...] = (
    ("4", "4", 16, 16, _SURE),  # Visa
    ("4", "4", 19, 19, _SURE),
    ("4", "4", 13, 13, _EVEN),  # of old; codes of goods (EAN-13) begin with 4 as well
    ("51", "55", 16, 16, _SURE),  # Mastercard
    ("2221", "2720", 16, 16, _SURE),
    ("34", "34", 15, 15, _SURE),  # American Express
    ("37", "37", 15, 15, _SURE),
    ("300", "305", 14, 19, _LIKELY),  # Diners Club
    ("3095", "3095", 14, 19, _LIKELY),
    ("36", "36", 14, 19, _LIKELY),
    ("38", "39", 14, 19, _LIKELY),
    ("6011", "6011", 16, 19, _SURE),  # Discover
    ("644", "649", 16, 19, _LIKELY),
    ("65", "65", 16, 19, _LIKELY),
    ("62", "62", 16, 19, _LIKELY),  # UnionPay
    ("3528", "3589", 16, 19, _SURE),  # JCB
    ("1800", "1800", 15, 15, _EVEN),
    ("2131", "2131", 15, 15, _EVEN),
    ("2200", "2204", 16, 19, _LIKELY),  # Mir
    ("9792", "9792", 16, 16, _LIKELY),  # Troy
    ("50", "50", 16, 19, _LIKELY),  # Maestro
    ("56", "58", 16, 19, _LIKELY),
    ("63", "63", 16, 19, _LIKELY),
    ("67", "67", 16, 19, _LIKELY),
    ("50", "50", 12, 15, _EVEN),
    ("56", "58", 12, 15, _EVEN),
    ("6304", "6304", 12, 15, _EVEN),
    ("6759", "6763", 12, 15, _EVEN),
    ("0604", "0604", 12, 19, _EVEN),
)


def find_cards(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of card numbers in regions of digits and what separates them."""
    for region_start, region_end in regions:
        for match in _WRITTEN.finditer(text, region_start, region_end + 2):
            start, end = match.span("number")
            score, end = _longest(text, start, end, grouped=match["gap"] is not None)
            if score:
                yield Mark(RULE, start, end, score)


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
    is_called = bool(_WORDS.search(before(text, start)))
    for stop in (*((more.end(),) if more else ()), end):
        digits = _NO_DIGIT.sub("", text[start:stop])
        score = card_score(digits)
        if not score and is_called and len(digits) == 16 and luhn(digits):
            return _CALLED, stop
        if score:
            if is_called:
                return _SURE, stop
            return (min(score, _EVEN) if grouped and _in_series(text, start, stop) else score), stop
    return 0.0, end


def _in_series(text: str, start: int, end: int) -> bool:
    """Whether groups of four go on on either side: a row of a table has such groups."""
    return bool(_GROUP_BEFORE.search(text, max(0, start - 6), start) or _GROUP_AFTER.match(text, end, end + 6))
