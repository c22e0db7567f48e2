"""Addresses of e-mail as people write them: RFC 5321 and 6531 without quotes, and `name [at] domain [dot] org`.

A candidate is an `@` (or `[at]`) with a domain behind it; the name is read backwards from there, so that a long run of
letters without one costs nothing.
"""

import re
from collections.abc import Iterator

from lmworks.data.annotate.pii.context import Regions
from lmworks.data.annotation import Mark

RULE = "pii.email"

_LONGEST_NAME = 64  # RFC 5321, section 4.5.3.1.1
_WINDOW = 600  # at least eight labels of 63 characters, and a top-level domain

_LABEL = r"[^\W_][\w-]{0,62}+"
# A top-level domain that begins with a capital and goes on without is the next sentence: `a@b.com.This`.
_TOP = r"(?:xn--[a-z0-9-]{2,59}|[a-z]{2,24}|[A-Z]{2,24}|[^\W\d_A-Za-z]{2,24})(?!\w|-\w)"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.){{1,8}}{_TOP}")
_DOT = r"(?:\.| ?[(\[{] ?(?i:dot) ?[)\]}] ?)"
_SPELLED = re.compile(rf"[(\[{{] ?(?i:at) ?[)\]}}] ?(?P<domain>(?:{_LABEL}{_DOT}){{1,8}}{_TOP})")
# The name, backwards: letters of scripts that put spaces between words, so that a Chinese sentence in front of an
# address is not part of it; a name wholly of other letters is the second try.
_NAME = re.compile(rf"(?:[^\W\u0530-\U0010ffff]|[.+%'&-]){{1,{_LONGEST_NAME + 1}}}")
_OTHER_NAME = re.compile(rf"\w{{1,{_LONGEST_NAME + 1}}}")
_NO_BEGINNING = ".+%'&-"

_FILES = frozenset(
    {"bmp", "css", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "jsx", "pdf", "php", "png", "scss"}
    | {"svg", "ts", "tsx", "webp", "xml", "zip"}
)
# RFC 2606 and 6761: names that belong to nobody.
_RESERVED = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|net|org))?|test|invalid|localhost|local)", re.IGNORECASE)
_ROLES = frozenset(
    {"abuse", "admin", "billing", "contact", "enquiries", "feedback", "hello", "help", "hostmaster", "info", "jobs"}
    | {"mail", "marketing", "media", "news", "newsletter", "no-reply", "noreply", "office", "orders", "postmaster"}
    | {"press", "privacy", "sales", "security", "service", "support", "team", "webmaster"}
)
_PERSON, _ROLE, _NOBODY = 0.95, 0.6, 0.2


def find_emails(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of the addresses whose `@` each region begins with.

    Addresses of roles (`info@`) score 0.6; those that are no one's, in domains for examples or `git@`, 0.2.
    """
    for at, _ in regions:
        domain = _DOMAIN.match(text, at + 1, at + 1 + _WINDOW)
        if domain is not None:
            yield from _mark(text, at, domain.end(), domain[0])


def find_spelled_emails(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of the addresses whose `[at]`, `(at)` or `{at}` each region begins with."""
    for bracket, _ in regions:
        spelled = _SPELLED.match(text, bracket, bracket + _WINDOW)
        if spelled is not None:
            at = bracket - 1 if text[bracket - 1 : bracket] == " " else bracket
            yield from _mark(text, at, spelled.end(), re.sub(_DOT, ".", spelled["domain"]))


def _mark(text: str, at: int, end: int, domain: str) -> Iterator[Mark]:
    start = _name_start(text, at)
    if start < at and domain.rpartition(".")[2].casefold() not in _FILES:  # `icon@2x.png`
        yield Mark(RULE, start, end, _score(text[start:at].casefold(), domain))


def _name_start(text: str, at: int) -> int:
    """Where the name in front of `at` begins; `at` where there is none."""
    backwards = text[max(0, at - _LONGEST_NAME - 1) : at][::-1]
    run = _NAME.match(backwards) or _OTHER_NAME.match(backwards)
    if run is None or run.end() > _LONGEST_NAME:
        return at
    return at - len(run[0].rstrip(_NO_BEGINNING))


def _score(name: str, domain: str) -> float:
    if name == "git" or _RESERVED.fullmatch(domain):
        return _NOBODY
    return _ROLE if name in _ROLES else _PERSON
