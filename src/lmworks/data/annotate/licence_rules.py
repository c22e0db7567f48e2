"""Where a text states a licence: tags, addresses, names in a statement, and the first words of licences themselves."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lmworks.data.annotate.licence_gnu import read_gnu
from lmworks.data.annotate.licence_statement import (
    Kind,
    Statement,
    in_small_letters,
    inside_a_word,
    is_stated,
    is_title,
    plain_words,
)
from lmworks.data.annotate.spdx import LicenceError, is_frequent, licences, parse

PUBLIC_DOMAIN = "LicenseRef-public-domain"


def statements(text: str) -> Iterator[Statement]:
    """All statements, a rule after another; they may overlap."""
    small = in_small_letters(text)
    if _TAG in small:
        yield from _tags(text, small)
    for rule in _RULES:
        if any(anchor in small for anchor in rule.anchors):
            for match in rule.pattern.finditer(small):
                found = rule.read(small, match)
                if found is not None:
                    yield found


_Read = Callable[[str, re.Match[str]], Statement | None]


@dataclass(frozen=True, slots=True)
class _Rule:
    """`pattern` is searched only in texts that hold one of `anchors`, which is much faster to see."""

    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    read: _Read


def _phrase(words: str) -> re.Pattern[str]:
    return re.compile(r"\W{1,40}".join(words.split()))


def _always(kind: Kind, expression: str) -> _Read:
    return lambda small, match: Statement(*match.span(), kind, expression)


# ---------------------------------------------------------------------------------------------------------------------
# Tags and fields that hold an expression


def _tags(text: str, small: str) -> Iterator[Statement]:
    """What stands behind `SPDX-License-Identifier:`, the longest beginning of it that is an expression, in the letters
    of the text: names that are in no list keep theirs."""
    for match in _TAGGED.finditer(small):
        told = text[match.start(1) : match.end(1)]
        words = told.split()
        for number in range(len(words), 0, -1):
            try:
                expression = parse(" ".join(words[:number]))
            except LicenceError:
                continue
            yield Statement(match.start(), match.start(1) + _length_of(told, number), "tag", str(expression))
            break


def _read_field(small: str, match: re.Match[str]) -> Statement | None:
    """The longest beginning that is an expression of well-known names, since `license:` may be before any word."""
    words = match[1].rstrip(".").split()
    for number in range(len(words), 0, -1):
        try:
            expression = parse(" ".join(words[:number]))
        except LicenceError:
            continue
        if all(map(is_frequent, licences(expression))):
            end = match.start(1) + _length_of(match[1].rstrip("."), number)
            return Statement(match.start(), end, "name", str(expression))
    return None


def _length_of(text: str, words: int) -> int:
    """Characters up to the end of so many words."""
    return [each.end() for each in re.finditer(r"\S+", text)][words - 1]


_PART = r"[()\w][\w.+:()\-]{0,99}"  # of an expression, between spaces
_TAG = "spdx-license-identifier:"
_TAGGED = re.compile(rf"{_TAG}[ \t]*({_PART}(?:[ \t]{{1,9}}{_PART}){{0,40}})")
_NAME = r"[a-z0-9][a-z0-9.+\-]*"
_EXPRESSION = rf"({_NAME}(?:\s(?:and|or|with)\s{_NAME}){{0,4}})"
_SHORT_NAMES = "mit|isc|apache|bsd|mpl|epl|[al]?gpl|gfdl|cc0|cc|zlib|unlicense|0bsd|bsl|eupl"

# ---------------------------------------------------------------------------------------------------------------------
# The words of licences themselves


def _read_mit(small: str, match: re.Match[str]) -> Statement:
    after = plain_words(small[match.end() : match.end() + 1500])
    if "furnished to do so the software is provided" in after:
        name = "MIT-0"
    else:
        name = "X11" if "shall not be used in advertising or otherwise" in after else "MIT"
    return Statement(*match.span(), "text", name)


def _read_bsd(small: str, match: re.Match[str]) -> Statement:
    after = plain_words(small[match.end() : match.end() + 2000]).split("redistributions of source code")[0]
    if "end user documentation included with the redistribution" in after:
        name = "Apache-1.1"
    elif "advertising materials mentioning features" in after:
        name = "BSD-4-Clause"
    else:
        name = "BSD-3-Clause" if "endorse or promote" in after else "BSD-2-Clause"
    return Statement(*match.span(), "text", name)


def _read_isc(small: str, match: re.Match[str]) -> Statement:
    provided = plain_words(small[match.end() : match.end() + 40]).startswith(" provided that")
    return Statement(*match.span(), "text", "ISC" if provided else "0BSD")


# ---------------------------------------------------------------------------------------------------------------------
# Creative Commons


def _creative_commons(elements: str, version: str) -> tuple[str, str] | None:
    """The name and the family of a licence, such as CC-BY-NC-SA-4.0 and CC-BY-NC-SA, from what its address has. A port
    to the law of a country counts as the licence that it ports."""
    parts = elements.split("-")
    if "by" not in parts or not set(parts) <= {"by", "nc", "sa", "nd"} or {"sa", "nd"} <= set(parts):
        return None
    family = "-".join(["CC", *(part.upper() for part in ("by", "nc", "sa", "nd") if part in parts)])
    return (f"{family}-{version}" if version else f"LicenseRef-{family}"), family


def _read_address(small: str, match: re.Match[str]) -> Statement | None:
    if match[3]:
        return Statement(*match.span(), "address", "CC0-1.0" if match[3] == "zero" else "CC-PDM-1.0")
    found = _creative_commons(match[1], match[2])
    return Statement(*match.span(), "address", *found) if found else None


def _read_short(small: str, match: re.Match[str]) -> Statement | None:
    if inside_a_word(small, match.start()):
        return None
    found = _creative_commons("-".join(filter(None, ("by", match[1], match[2]))), match[3])
    return Statement(*match.span(), "name", *found) if found else None


_CC_VERSIONS = ("1.0", "2.0", "2.1", "2.5", "3.0", "4.0")
_ATTRIBUTION = re.compile(
    r"(?: (non ?commercial))?(?: (?:(share ?alike)|(no ?deriv\w*)))?(?: works)?((?: [a-z]+){0,6}? v?(\d) (\d)\b)?"
)


def _read_attribution(small: str, match: re.Match[str]) -> Statement | None:
    """`Creative Commons Attribution`, and what follows: other elements, and the version within a few words."""
    after = _ATTRIBUTION.match(plain_words(small[match.end() : match.end() + 140]))
    if after is None:
        return None
    version = f"{after[5]}.{after[6]}" if after[4] else ""
    version = version if version in _CC_VERSIONS else ""
    if not version and not is_stated(small, match.start()):
        return None
    elements = "-".join(["by", *(name for name, part in zip(("nc", "sa", "nd"), after.groups(), strict=False) if part)])
    found = _creative_commons(elements, version)
    return Statement(*match.span(), "name", *found, vague=not version) if found else None


def _read_zero(small: str, match: re.Match[str]) -> Statement | None:
    if inside_a_word(small, match.start()) or small[match.start() - 1 : match.start()] == "#":  # a colour
        return None
    return Statement(*match.span(), "name", "CC0-1.0")


# ---------------------------------------------------------------------------------------------------------------------
# Names in a statement


def _named(expression_of: Callable[[re.Match[str]], str]) -> _Read:
    """A rule for a name that says all, where it is stated or a title."""

    def read(small: str, match: re.Match[str]) -> Statement | None:
        if inside_a_word(small, match.start()):
            return None
        if not (is_stated(small, match.start()) or is_title(small, *match.span())):
            return None
        return Statement(*match.span(), "name", expression_of(match))

    return read


def _bsd_name(match: re.Match[str]) -> str:
    clauses = match[1] or match[2] or ("2" if match[3] == "simplified" else "3")
    return f"BSD-{clauses}-Clause"


_SOME_WORDS = r"(?:\w{1,20}\W{1,5}){0,4}?"
_DOMAIN = r"the\W{1,5}public\W{1,5}domain"


def _read_public_domain(small: str, match: re.Match[str]) -> Statement | None:
    before = plain_words(small[max(0, match.start() - 30) : match.start()]).split()[-3:]
    if {"not", "never", "cannot"} & set(before):
        return None
    return Statement(*match.span(), "public_domain", PUBLIC_DOMAIN)


# ---------------------------------------------------------------------------------------------------------------------

_RULES = (
    _Rule(("licen",), re.compile(rf"licen[cs]e[\"']?\s?[:=]\s?[\"'(]{{0,2}}{_EXPRESSION}"), _read_field),
    _Rule(("under",), re.compile(rf"under\s(?:the\s)?(?={_SHORT_NAMES}){_EXPRESSION}"), _read_field),
    _Rule(
        ("permission",),
        _phrase("permission is hereby granted free of charge to any person obtaining a copy of this software"),
        _read_mit,
    ),
    _Rule(
        ("permission",),
        _phrase("permission is hereby granted free of charge to any person or organi[sz]ation obtaining a copy"),
        _always("text", "BSL-1.0"),
    ),
    _Rule(
        ("permission",),
        _phrase(
            r"permission to use copy modify and(?:\W{1,5}or)? distribute this software for any purpose with or"
            " without fee is hereby granted"
        ),
        _read_isc,
    ),
    _Rule(("redistributions",), _phrase("redistributions of source code must retain the above copyright"), _read_bsd),
    _Rule(
        ("unencumbered",),
        _phrase("this is free and unencumbered software released into the public domain"),
        _always("text", "Unlicense"),
    ),
    _Rule(
        ("misrepresented",), _phrase("the origin of this software must not be misrepresented"), _always("text", "Zlib")
    ),
    _Rule(
        ("creativecommons.org",),
        re.compile(
            r"creativecommons\.org/(?:licenses/([a-z\-]{2,12})/(1\.0|2\.0|2\.1|2\.5|3\.0|4\.0)"
            r"|publicdomain/(zero|mark)/1\.0)"
        ),
        _read_address,
    ),
    _Rule(("apache.org",), re.compile(r"apache\.org/licenses/license-2\.0"), _always("address", "Apache-2.0")),
    _Rule(
        ("cc by", "cc-by"),
        re.compile(r"cc[ \-]by(?:[ \-](nc))?(?:[ \-](sa|nd))?[ \-]v?(1\.0|2\.0|2\.1|2\.5|3\.0|4\.0)"),
        _read_short,
    ),
    _Rule(("creative",), _phrase("creative commons attribution"), _read_attribution),
    _Rule(("creative",), _phrase("creative commons zero"), _read_zero),
    _Rule(("cc0",), re.compile(r"cc0\W{1,3}(?:1\.0|universal|licen[cs]e|public)"), _read_zero),
    _Rule(
        ("gnu",),
        re.compile(
            r"gnu\W{1,40}(?:(lesser|library|affero|free)\W{1,40})?(?:general\W{1,40}public|documentation)"
            r"\W{1,40}licen[cs]e"
        ),
        read_gnu,
    ),
    _Rule(("gpl",), re.compile(r"([al]?)gpl(?![a-uw-z])"), read_gnu),
    _Rule(
        ("apache",),
        re.compile(
            r"apache\W{1,40}(?:software\W{1,40})?licen[cs]e\W{1,40}(?:version\W{1,5}|v\.?\W{0,2})?2(?:\.0)?(?![\w.]*\d)"
        ),
        _named(lambda match: "Apache-2.0"),
    ),
    _Rule(
        ("mozilla", "eclipse"),
        re.compile(
            r"(mozilla|eclipse)\W{1,40}public\W{1,40}licen[cs]e\W{1,40}(?:version\W{1,5}|v\.?\W{0,2})?(1\.0|1\.1|2\.0)"
        ),
        _named(lambda match: f"{match[1][0].upper()}PL-{match[2]}"),
    ),
    _Rule(
        ("bsd",),
        re.compile(
            r"bsd\W{1,3}([234])\W{1,3}clause|([234])\W{1,3}clause\W{1,3}bsd|(new|modified|revised|simplified)\W{1,3}bsd"
        ),
        _named(_bsd_name),
    ),
    _Rule(
        ("mit licen", "mit/x11", "isc licen", "zlib licen"),
        re.compile(r"(mit|isc|zlib)\W{1,5}(?:x11\W{1,5})?licen[cs]e"),
        _named(lambda match: {"mit": "MIT", "isc": "ISC", "zlib": "Zlib"}[match[1]]),
    ),
    _Rule(
        ("public domain",),
        re.compile(
            rf"(?:placed|released|dedicated|donated|put)\W{{1,5}}{_SOME_WORDS}(?:in|into|to)\W{{1,5}}{_DOMAIN}"
            rf"|this\W{{1,5}}{_SOME_WORDS}is\W{{1,5}}(?:hereby\W{{1,5}})?in\W{{1,5}}{_DOMAIN}"
        ),
        _read_public_domain,
    ),
)
