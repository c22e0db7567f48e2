"""Addresses of machines, of mail and of the web, and passwords in them.

Machines: IPv4 in four decimal numbers, IPv6 (RFC 4291 and 5952), both checked by `ipaddress`, which knows IANA's
registries; MAC in six pairs. The prefix of a network is no one's address: one with a length behind it ("2a00::/12") and
no bit beyond, and an IPv6 address whose last 64 bits, which tell hosts apart, are zero. Mail: RFC 5321 and 6531 without
quotes, and `name [at] domain [dot] org`; the name is read backwards from the sign, so that a long run of letters costs
nothing. Web (RFC 3986): an address is hardly personal, and scores little.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.pii.keys import PASSWORD

IP, IP_SPECIAL, MAC = "pii.ip", "pii.ip_special", "pii.mac"
EMAIL, URL = "pii.email", "pii.url"

Regions = Sequence[tuple[int, int]]  # half-open ranges of a text in which a family of patterns may begin


def before(text: str, start: int, width: int = 40) -> str:
    """Up to `width` characters in front of `start`, but none beyond a blank line or a bracket `<` or `>`.

    What was redacted stands in such brackets. Were it in sight, its length would decide how far one sees, and a text
    would be read otherwise after redaction.
    """
    window = text[max(0, start - width) : start]
    return window[max(window.rfind("<"), window.rfind(">"), window.rfind("\n\n")) + 1 :]


# ---------------------------------------------------------------------------------------------------------------------
# Of machines

PATTERNS = read_patterns(__file__)
# What numbers a section: in a heading, at a line's start before a point and a title, behind a word with a no-break
# space; or a version, behind a name with a hyphen; and three such numbers, which the fourth is a part of.
_DOCUMENTATION = "00005e0053"  # RFC 7042, section 2.1.2
_SURE, _EVEN, _UNLIKELY, _NOBODY = 0.9, 0.5, 0.3, 0.1

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_ipv4(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans in regions of digits and separators. Four numbers that are rather a version or a section score 0.3."""
    sections: set[str] | None = None
    for start, end in regions:
        for match in PATTERNS["v4"].finditer(text, start, end + 2):
            try:
                address = ipaddress.IPv4Address(match[0])
            except ValueError:
                continue
            rule, score = _classify(address)
            is_low = address.packed[3] == 0 or max(address.packed) < 10  # like a version
            if rule == IP and _is_prefix(address, text, match.end()):
                score = _NOBODY
            elif rule == IP and (is_low or PATTERNS["version"].search(before(text, match.start(), 12))):
                score = _UNLIKELY
            elif rule == IP and max(address.packed) < 100:  # of one address in forty
                if sections is None:
                    sections = {found[0].lstrip(" \t#*+-[") for found in PATTERNS["section"].finditer(text)}
                if match[0] in sections or match[0].rpartition(".")[0] in sections:
                    score = _UNLIKELY
            yield TaggedSpan(rule, *match.span(), score)


def find_colon_addresses(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of IPv6 and MAC addresses; each region begins with the first colon that has a second one behind it."""
    for colon, _ in regions:
        backwards = PATTERNS["hexadecimal_backwards"].match(text[max(0, colon - 6) : colon][::-1])
        if backwards is None or backwards.end() > 5:
            continue
        start = colon - backwards.end()
        yield from _mac(text, start) or _ipv6(text, start)


def find_hyphen_addresses(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of MAC addresses with hyphens; each region begins with the first hyphen."""
    for hyphen, _ in regions:
        yield from _mac(text, hyphen - 2)


def _ipv6(text: str, start: int) -> list[TaggedSpan]:
    run = PATTERNS["v6"].match(text, start, start + 64)
    if run is None or (start and (text[start - 1].isalnum() or text[start - 1] in "_.")):
        return []
    written = run[0][:-1] if run[0].endswith(":") and not run[0].endswith("::") else run[0]
    after = text[start + len(written) : start + len(written) + 1]
    # `a[1::2]` and `abc::def` are code.
    if after.isalnum() or after == "_" or (written.count(":") < 3 and not PATTERNS["v6_group"].search(written)):
        return []
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return []
    rule, score = _classify(address.ipv4_mapped or address)
    if address.ipv4_mapped is None and _is_prefix(address, text, start + len(written)):
        score = _NOBODY
    return [TaggedSpan(rule, start, start + len(written), score)]


def _mac(text: str, start: int) -> list[TaggedSpan]:
    match = PATTERNS["mac"].match(text, start, start + 19) if start >= 0 else None
    if match is None:
        return []
    digits = match[0].replace(match[1], "").lower()
    first = int(digits[:2], 16)
    if digits.startswith(_DOCUMENTATION) or first & 1 or not int(digits, 16):  # first & 1: a group, not a device
        score = _NOBODY
    else:
        score = _EVEN if match[1] == "-" and digits.isdigit() else _SURE
    return [TaggedSpan(MAC, *match.span(), score)]


def _classify(address: Address) -> tuple[str, float]:
    return (IP, _SURE) if address.is_global and not address.is_multicast else (IP_SPECIAL, _NOBODY)


def _is_prefix(address: Address, text: str, end: int) -> bool:
    """Whether an address that ends at `end` is that of a network."""
    if address.version == 6 and not int(address) & (2**64 - 1):
        return True
    length = PATTERNS["length"].match(text, end, end + 5)
    bits = address.max_prefixlen - int(length[1]) if length else 0
    return bits > 0 and not int(address) & (2**bits - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Of mail

_LONGEST_NAME = 64  # RFC 5321, section 4.5.3.1.1
_WINDOW = 600  # at least eight labels of 63 characters, and a top-level domain

# A top-level domain that begins with a capital and continues without is the next sentence: `a@b.com.This`.
# The name, backwards: letters of scripts that put spaces between words, so that a Chinese sentence in front of an
# address is not part of it; a name wholly of other letters is the second try.
_NAME = re.compile(rf"(?:[^\W\u0530-\U0010ffff]|[.+%'&-]){{1,{_LONGEST_NAME + 1}}}")
_OTHER_NAME = re.compile(rf"\w{{1,{_LONGEST_NAME + 1}}}")
_NO_BEGINNING = ".+%'&-"

_FILES = frozenset(
    {"bmp", "css", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "jsx", "pdf", "php", "png", "scss"}
    | {"svg", "ts", "tsx", "webp", "xml", "zip"}
)
_ROLES = frozenset(
    {"abuse", "admin", "billing", "contact", "enquiries", "feedback", "hello", "help", "hostmaster", "info", "jobs"}
    | {"mail", "marketing", "media", "news", "newsletter", "no-reply", "noreply", "office", "orders", "postmaster"}
    | {"press", "privacy", "sales", "security", "service", "support", "team", "webmaster"}
)
_PERSON, _ROLE, _EXAMPLE = 0.95, 0.6, 0.2


def find_emails(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of the addresses whose `@` each region begins with.

    Addresses of roles (`info@`) score 0.6; those that are no one's, in domains for examples or `git@`, 0.2.
    """
    for at, _ in regions:
        domain = PATTERNS["domain"].match(text, at + 1, at + 1 + _WINDOW)
        if domain is not None:
            yield from _email(text, at, domain.end(), domain[0])


def find_spelled_emails(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of the addresses whose `[at]`, `(at)` or `{at}` each region begins with."""
    for bracket, _ in regions:
        spelled = PATTERNS["spelled"].match(text, bracket, bracket + _WINDOW)
        if spelled is not None:
            at = bracket - 1 if text[bracket - 1 : bracket] == " " else bracket
            yield from _email(text, at, spelled.end(), PATTERNS["dot"].sub(".", spelled["domain"]))


def _email(text: str, at: int, end: int, domain: str) -> Iterator[TaggedSpan]:
    backwards = text[max(0, at - _LONGEST_NAME - 1) : at][::-1]
    run = _NAME.match(backwards) or _OTHER_NAME.match(backwards)
    length = len(run[0].rstrip(_NO_BEGINNING)) if run and run.end() <= _LONGEST_NAME else 0
    if length and domain.rpartition(".")[2].casefold() not in _FILES:  # `icon@2x.png`
        name = text[at - length : at].casefold()
        is_example = name == "git" or PATTERNS["reserved"].fullmatch(domain)
        yield TaggedSpan(EMAIL, at - length, end, _EXAMPLE if is_example else _ROLE if name in _ROLES else _PERSON)


# ---------------------------------------------------------------------------------------------------------------------
# Of the web

_LONGEST = 2000
_PUNCTUATION = ".,;:!?'*_~"

_LOGGED_IN, _NO_LOGIN, _PLAIN = 0.9, 0.2, 0.2


def find_urls(text: str, regions: Regions) -> Iterator[TaggedSpan]:
    """Spans of addresses; each region begins with the colon of `://`, or with the dot of `www.`."""
    done = 0
    for sign, _ in regions:
        if sign < done:  # one address inside another
            continue
        if text[sign] == ":":
            scheme = PATTERNS["scheme"].search(text, max(0, sign - 16), sign)
            begin, start = (scheme.start(), sign + 3) if scheme else (sign, len(text))
        else:
            begin = start = sign - 3
            if begin and (text[begin - 1].isalnum() or text[begin - 1] in ".-_@"):
                continue
        body = PATTERNS["body"].match(text, start, start + _LONGEST)
        if body is None:
            continue
        login = PATTERNS["login"].match(text, start, body.end()) if begin < start else None
        if login is not None:
            score = _NO_LOGIN if PATTERNS["no_password"].fullmatch(login[1]) else _LOGGED_IN
            yield TaggedSpan(PASSWORD, login.start(), login.end() - 1, score)
        done = body.end()
        yield TaggedSpan(URL, begin, start + len(trimmed(body[0])), _PLAIN)


def trimmed(address: str) -> str:
    """An address without the punctuation of the sentence that it stands in, and closing brackets that none opens."""
    for _ in range(4):  # `http://x.org/).` and the like; whoever writes more of them loses nothing
        address = address.rstrip(_PUNCTUATION)
        unopened = address.count(")") - address.count("(")
        closing = len(address) - len(address.rstrip(")"))
        if unopened <= 0 or not closing:
            break
        address = address[: len(address) - min(unopened, closing)]
    return address
