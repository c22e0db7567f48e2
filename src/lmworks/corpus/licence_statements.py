"""Where a text states a licence: tags, addresses, names in a statement, and the first words of licences themselves.

Texts are matched in lower case, of the same length. Between words there may be whatever is no letter or digit,
since a comment puts its signs before each line. A name counts only where it is stated ("under the", "license:"), since
articles name licences, too.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from lmworks.corpus.licence_expressions import LicenceError, is_plain, normalised

Kind = Literal["tag", "text", "address", "name", "public_domain"]

PUBLIC_DOMAIN = "LicenseRef-public-domain"
# How sure each kind is: a tag and a licence's own words say it; an address may be that of one picture on the page.
SCORES: dict[Kind, float] = {"tag": 1.0, "text": 1.0, "address": 0.8, "name": 0.7, "public_domain": 0.6}


@dataclass(frozen=True, slots=True)
class Statement:
    """A licence expression and where it is stated, `[start, end)`.

    family  What it is a version of, where another statement could say which; `vague` if this one does not.
    """

    start: int
    end: int
    kind: Kind
    expression: str
    family: str = ""
    vague: bool = False


def statements(text: str) -> Iterator[Statement]:
    """All statements, a rule after another; they may overlap."""
    small = in_small_letters(text)
    if _TAG in small:
        for match in _TAGGED.finditer(small):  # in the letters of the text: names that are in no list keep theirs
            if longest := _longest_expression(text[match.start(1) : match.end(1)]):
                yield Statement(match.start(), match.start(1) + longest[1], "tag", longest[0])
    for anchors, kind, says, pattern in _RULES:
        if not any(anchor in small for anchor in anchors):  # much faster to see than a pattern
            continue
        for match in pattern.finditer(small):
            said = says.format(*match.groups()) if isinstance(says, str) else says(small, match)
            if isinstance(said, Statement):
                yield said
            elif said and (kind != "stated" or _is_stated(small, match.start())):
                yield Statement(*match.span(), "name" if kind == "stated" else kind, said)


def in_small_letters(text: str) -> str:
    """`text.lower()` of the same length: İ, the one letter that would become two, becomes an i."""
    return text.replace("\u0130", "i").lower()


def plain_words(text: str) -> str:
    """Words with one space between them, and + where it is written."""
    return _NO_WORD.sub(" ", text)


_NO_WORD = re.compile(r"[^\w+]+")

# ---------------------------------------------------------------------------------------------------------------------
# Tags and fields that hold an expression

_PART = r"[()\w][\w.+:()\-]{0,99}"  # of an expression, between spaces
_TAG = "spdx-license-identifier:"
_TAGGED = re.compile(rf"{_TAG}[ \t]*({_PART}(?:[ \t]{{1,9}}{_PART}){{0,40}})")
_NAME = r"[a-z0-9][a-z0-9.+\-]*"
_EXPRESSION = rf"({_NAME}(?:\s(?:and|or|with)\s{_NAME}){{0,4}})"
_SHORT_NAMES = "mit|isc|apache|bsd|mpl|epl|[al]?gpl|gfdl|cc0|cc|zlib|unlicense|0bsd|bsl|eupl"


def _longest_expression(text: str, accept: Callable[[str], bool] = bool) -> tuple[str, int] | None:
    """The longest beginning of a text that is such an expression, and its characters."""
    for end in reversed([word.end() for word in re.finditer(r"\S+", text)]):
        with suppress(LicenceError):
            found = normalised(text[:end])
            if accept(text[:end]):
                return found, end
    return None


def _field(small: str, match: re.Match[str]) -> Statement | None:
    """An expression of well-known names, since `license:` may be before any word."""
    longest = _longest_expression(match[1].rstrip("."), is_plain)
    return Statement(match.start(), match.start(1) + longest[1], "name", longest[0]) if longest else None


# ---------------------------------------------------------------------------------------------------------------------
# Names in a statement, and licences' own words

_CUE = re.compile(
    r"\b(?:(?:under|terms|conditions|provisions|covered by|subject to|governed by)(?: \w+){0,4}"
    r"|licen[cs]e[sd]?(?: \w+){0,3}|either(?: of)?(?: the| an?)?) ?\Z"
)


def _is_stated(small: str, start: int) -> bool:
    """Whether what begins here is said to hold."""
    return _CUE.search(plain_words(small[max(0, start - 100) : start])) is not None


def _own_words(otherwise: str, within: int, names: dict[str, str], small: str, match: re.Match[str]) -> str:
    """The first licence of several that begin alike whose words come `within` characters, or `otherwise`."""
    after = plain_words(small[match.end() : match.end() + within]).split("redistributions of source code")[0]
    return next((name for name, words in names.items() if words in after), otherwise)


def _public_domain(small: str, match: re.Match[str]) -> str | None:
    before = plain_words(small[max(0, match.start() - 30) : match.start()]).split()[-3:]
    return None if {"not", "never", "cannot"} & set(before) else PUBLIC_DOMAIN


# ---------------------------------------------------------------------------------------------------------------------
# Creative Commons

_CC_VERSION = r"(?P<version>1\.0|2\.0|2\.1|2\.5|3\.0|4\.0)"
_CC_PARTS = {"nc": "nc|non ?commercial", "sa": "sa|share ?alike", "nd": r"nd|no ?deriv\w*"}


def _creative_commons(kind: Kind, small: str, match: re.Match[str]) -> Statement | None:
    """By what its address has: CC-BY-NC-SA-4.0 of the family CC-BY-NC-SA. A port to the law of a country counts as the
    licence that it ports; a name without a version only where it is stated."""
    written, version = plain_words(match["parts"]), match["version"]
    parts = [part for part, words in _CC_PARTS.items() if re.search(rf"\b(?:{words})\b", written)]
    if {"sa", "nd"} <= {*parts} or not (version or _is_stated(small, match.start())):
        return None
    family = "-".join(["CC-BY", *map(str.upper, parts)])
    name = f"{family}-{version}" if version else f"LicenseRef-{family}"
    return Statement(*match.span(), kind, name, family, vague=not version)


# ---------------------------------------------------------------------------------------------------------------------
# GNU

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
_LATER = r"or (?:at your (?:option|choice) )?(?:any )?(?:later|newer"
_OR_LATER = re.compile(
    r"(?: only| [al]?gpl ?v?\d(?: \d)?| of the (?:gnu )?(?:[al]?gpl|licen[cs]e)"
    r"| as published by the free software foundation(?: inc)?)*"
    rf" ?(?:\+|{_LATER}|higher))"
)
_DATE = re.compile(r"(?: \d{1,2})? [a-z]{3,9} \d{4}\b")  # behind the version in the title of a licence itself
# In front of the name: "version 2 of the", "version 2 or any later version of the".
_VERSION_BEFORE = re.compile(rf"\bv(?:ersion )?(\d)(?: (\d))?( {_LATER})(?: version)?)? of the ?\Z")


def _gnu(small: str, match: re.Match[str]) -> Statement | None:
    """The version may be some words behind the name or right before it, and behind it whether later ones hold as well.
    Without a version any that was ever published may be chosen (GPL, section on revised versions)."""
    family = _GNU_FAMILIES.get(match[1] or "", "GPL")
    before = plain_words(small[max(0, match.start() - 160) : match.start()])
    version = _VERSION_BEFORE.search(before)
    if version is not None and _CUE.search(before[: version.start()]):
        later = bool(version[3])
    else:
        after = plain_words(small[match.end() : match.end() + 260])
        version = _VERSION.match(after)
        later = version is not None and _OR_LATER.match(after, version.end()) is not None
        if not _is_stated(small, match.start()) and not (version and _DATE.match(after, version.end())):
            return None
    number = f"{version[1]}.{version[2] or 0}" if version else ""
    if is_vague := number not in _GNU_VERSIONS[family]:
        number, later = _GNU_VERSIONS[family][0], True
    name = f"{family}-{number}-{'or-later' if later else 'only'}"
    return Statement(*match.span(), "name", name, family, is_vague)


# ---------------------------------------------------------------------------------------------------------------------
# All of them. A rule: what stands somewhere in a text that holds such a statement; its kind, `stated` for a name that
# counts where it is stated; the licence, with the groups of the match, or the function that tells it; and the pattern.

_GAP = r"\W{1,40}"
_VERSION_WORD = rf"{_GAP}(?:version\W{{1,5}}|v\.?\W{{0,2}})?"
_MPL = rf"{_GAP}public{_GAP}licen[cs]e{_VERSION_WORD}(1\.0|1\.1|2\.0)"
_SOME_WORDS = r"(?:\w{1,20}\W{1,5}){0,4}?"
_DOMAIN = r"the\W{1,5}public\W{1,5}domain"
_GRANTED = "permission is hereby granted free of charge to any person"
_OF_MIT = {
    "MIT-0": "furnished to do so the software is provided",
    "X11": "shall not be used in advertising or otherwise",
}
_OF_BSD = {
    "Apache-1.1": "end user documentation included with the redistribution",
    "BSD-4-Clause": "advertising materials mentioning features",
    "BSD-3-Clause": "endorse or promote",
}
_OF_ISC = {"ISC": " provided that"}
Says = str | Callable[[str, re.Match[str]], Statement | str | None]  # of a text in small letters and a match in it
_PHRASES: tuple[tuple[str, Kind, Says, str], ...] = (  # words, between which there is whatever is none
    ("permission", "text", partial(_own_words, "MIT", 1500, _OF_MIT), f"{_GRANTED} obtaining a copy of this software"),
    ("permission", "text", "BSL-1.0", f"{_GRANTED} or organi[sz]ation obtaining a copy"),
    (
        "permission",
        "text",
        partial(_own_words, "0BSD", 40, _OF_ISC),
        r"permission to use copy modify and(?:\W{1,5}or)? distribute this software for any purpose with or without fee "
        "is hereby granted",
    ),
    (
        "redistributions",
        "text",
        partial(_own_words, "BSD-2-Clause", 2000, _OF_BSD),
        "redistributions of source code must retain the above copyright",
    ),
    ("unencumbered", "text", "Unlicense", "this is free and unencumbered software released into the public domain"),
    ("apache", "text", "Apache-2.0", "apache license version 2 0 january 2004"),
    ("mit licen", "name", "MIT", r"\bmit licen[cs]e(?: mit)? copyright"),
    ("misrepresented", "text", "Zlib", "the origin of this software must not be misrepresented"),
    ("creative", "name", "CC0-1.0", r"\bcreative commons zero"),
)
_PATTERNS: tuple[tuple[str, Kind | Literal["stated"], Says, str], ...] = (
    ("licen", "name", _field, rf"licen[cs]e[\"']?\s?[:=]\s?[\"'(]{{0,2}}{_EXPRESSION}"),
    ("under", "name", _field, rf"under\s(?:the\s)?(?={_SHORT_NAMES}){_EXPRESSION}"),
    (
        "creativecommons.org",
        "address",
        partial(_creative_commons, "address"),
        rf"creativecommons\.org/licenses/by(?P<parts>(?:-(?:nc|sa|nd))*)/{_CC_VERSION}",
    ),
    ("creativecommons.org", "address", "CC0-1.0", r"creativecommons\.org/publicdomain/zero/1\.0"),
    ("creativecommons.org", "address", "CC-PDM-1.0", r"creativecommons\.org/publicdomain/mark/1\.0"),
    (
        "cc by|cc-by",
        "name",
        partial(_creative_commons, "name"),
        rf"\bcc[ \-]by(?P<parts>(?:[ \-](?:nc|sa|nd))*)[ \-]v?{_CC_VERSION}",
    ),
    (
        "attribution",
        "name",
        partial(_creative_commons, "name"),
        rf"creative{_GAP}commons{_GAP}attribution"
        r"(?P<parts>(?:\W{1,5}(?:non\W?commercial|share\W?alike|no\W?deriv\w*|works)\b)*)"
        rf"(?:(?:\W{{1,5}}[a-z]{{1,20}}){{0,6}}?\W{{1,5}}v?{_CC_VERSION}\b)?",
    ),
    ("apache.org", "address", "Apache-2.0", r"apache\.org/licenses/license-2\.0"),
    # Behind # it is a colour.
    ("cc0", "name", "CC0-1.0", r"\b(?<!#)cc0\W{1,3}(?:1\.0|universal|licen[cs]e|public)"),
    (
        "gnu",
        "name",
        _gnu,
        rf"\bgnu{_GAP}(?:(lesser|library|affero|free){_GAP})?(?:general{_GAP}public|documentation){_GAP}licen[cs]e",
    ),
    ("gpl", "name", _gnu, r"\b([al]?)gpl(?![a-uw-z])"),
    (
        "apache",
        "stated",
        "Apache-2.0",
        rf"\bapache{_GAP}(?:software{_GAP})?licen[cs]e{_VERSION_WORD}2(?:\.0)?(?![\w.]*\d)",
    ),
    ("mozilla", "stated", "MPL-{0}", rf"\bmozilla{_MPL}"),
    ("eclipse", "stated", "EPL-{0}", rf"\beclipse{_MPL}"),
    ("bsd", "stated", "BSD-{0}-Clause", r"\bbsd\W{1,3}([234])\W{1,3}clause"),
    ("bsd", "stated", "BSD-{0}-Clause", r"\b([234])\W{1,3}clause\W{1,3}bsd"),
    ("bsd", "stated", "BSD-3-Clause", r"\b(?:new|modified|revised)\W{1,3}bsd"),
    ("bsd", "stated", "BSD-2-Clause", r"\bsimplified\W{1,3}bsd"),
    ("mit licen|mit/x11", "stated", "MIT", r"\bmit\W{1,5}(?:x11\W{1,5})?licen[cs]e"),
    ("isc licen", "stated", "ISC", r"\bisc\W{1,5}licen[cs]e"),
    ("zlib licen", "stated", "Zlib", r"\bzlib\W{1,5}licen[cs]e"),
    (
        "public domain",
        "public_domain",
        _public_domain,
        rf"(?:placed|released|dedicated|donated|put)\W{{1,5}}{_SOME_WORDS}(?:in|into|to)\W{{1,5}}{_DOMAIN}"
        rf"|this\W{{1,5}}{_SOME_WORDS}is\W{{1,5}}(?:hereby\W{{1,5}})?in\W{{1,5}}{_DOMAIN}",
    ),
)
_Rule = tuple[Sequence[str], Kind | Literal["stated"], Says, re.Pattern[str]]
_RULES: tuple[_Rule, ...] = (
    *((anchors.split("|"), kind, says, re.compile(pattern)) for anchors, kind, says, pattern in _PATTERNS),
    *(
        (anchors.split("|"), kind, says, re.compile(_GAP.join(words.split())))
        for anchors, kind, says, words in _PHRASES
    ),
)
