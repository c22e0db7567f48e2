"""Statements of GNU's licences: which of them, which version, and whether later ones hold as well."""

import re

from lmworks.data.annotate.licence_statement import CUE, Statement, inside_a_word, is_stated, is_title, plain_words

_GNU_VERSIONS = {
    "GPL": ("1.0", "2.0", "3.0"),
    "LGPL": ("2.0", "2.1", "3.0"),
    "AGPL": ("3.0",),
    "GFDL": ("1.1", "1.2", "1.3"),
}
_GNU_FAMILIES = {"lesser": "LGPL", "library": "LGPL", "affero": "AGPL", "free": "GFDL", "l": "LGPL", "a": "AGPL"}
_BETWEEN = "as|published|by|the|free|software|foundation|inc|either|in|its|[al]?gpl|gfdl|fdl|licen[cs]e"
_VERSION = re.compile(
    rf" ?(?:(?:(?:{_BETWEEN}) ){{0,12}}?(?:version |v ?)|[al]?gpl ?v?|v ?|)(\d)(?: (\d)(?!\d))?(?![\da-z])", re.ASCII
)
_OR_LATER = re.compile(
    r"(?: only| [al]?gpl ?v?\d(?: \d)?| of the (?:gnu )?(?:[al]?gpl|licen[cs]e)"
    r"| as published by the free software foundation(?: inc)?)*"
    r" ?(?:\+|or (?:at your (?:option|choice) )?(?:any )?(?:later|newer|higher))"
)
# In front of the name: "version 2 of the", "version 2 or any later version of the".
_VERSION_BEFORE = re.compile(
    r"\bv(?:ersion )?(\d)(?: (\d))?( or (?:at your (?:option|choice) )?(?:any )?(?:later|newer)(?: version)?)?"
    r" of the ?\Z"
)


def read_gnu(small: str, match: re.Match[str]) -> Statement | None:
    """The version may be some words behind the name or right before it, and behind it whether later ones hold as well.
    Without a version any that was ever published may be chosen (GPL, section on revised versions)."""
    if inside_a_word(small, match.start()):
        return None
    family = _GNU_FAMILIES.get(match[1] or "", "GPL")
    before = plain_words(small[max(0, match.start() - 160) : match.start()])
    leading = _VERSION_BEFORE.search(before)
    if leading is not None and CUE.search(before[: leading.start()]):
        number, later = _number(leading), bool(leading[3])
    else:
        after = plain_words(small[match.end() : match.end() + 260])
        version = _VERSION.match(after)
        number = _number(version) if version else ""
        later = version is not None and _OR_LATER.match(after, version.end()) is not None
        if not is_stated(small, match.start()) and not (number and is_title(small, *match.span())):
            return None
    if number not in _GNU_VERSIONS[family]:
        name = f"{family}-{_GNU_VERSIONS[family][0]}-or-later"
        return Statement(*match.span(), "name", name, family, vague=True)
    return Statement(*match.span(), "name", f"{family}-{number}-{'or-later' if later else 'only'}", family)


def _number(version: re.Match[str]) -> str:
    return f"{version[1]}.{version[2] or 0}"
