"""International bank account numbers (ISO 13616): the length of each country, and the remainder modulo 97."""

import re
import string
from collections.abc import Iterator, Mapping
from functools import cache

from lmworks.data.annotate.pii.context import Regions
from lmworks.data.annotation import Mark

RULE = "pii.iban"

# SWIFT's IBAN registry, release 99: country → characters.
LENGTHS: Mapping[str, int] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip

_BASE_36 = {ord(letter): str(int(letter, 36)) for letter in string.ascii_letters}
_GAP = re.compile("[ \u00a0-]")
_SCORE = 0.99


def find_ibans(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of account numbers, upper or lower case, whose first check digit each region begins with."""
    for digit, _ in regions:
        start = digit - 2
        length = LENGTHS.get(text[max(0, start) : digit].upper())
        written = _written(length).match(text, start, start + 2 * length) if length else None
        if written is not None and is_iban(_GAP.sub("", written[0])):
            yield Mark(RULE, start, written.end(), _SCORE)


def is_iban(compact: str) -> bool:
    """Whether letters and digits without gaps have the length of their country and leave 1 modulo 97."""
    if LENGTHS.get(compact[:2].upper()) != len(compact) or not (compact.isascii() and compact.isalnum()):
        return False
    return compact[2:4].isdigit() and passes_check(compact)


def passes_check(compact: str) -> bool:
    """ISO 13616: with the first four characters at the end and letters as 10 to 35, modulo 97 leaves 1."""
    return int((compact[4:] + compact[:4]).translate(_BASE_36)) % 97 == 1


@cache
def _written(length: int) -> re.Pattern[str]:
    """So many letters and digits, at most one gap between two of them."""
    return re.compile(rf"(?:[A-Za-z0-9][ \u00a0-]?){{{length - 1}}}[A-Za-z0-9](?![A-Za-z0-9])")
