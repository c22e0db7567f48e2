"""Addresses of machines: IPv4, IPv6 and MAC. Private, reserved and documentation ranges have a rule of their own.

IPv4 in four decimal numbers (RFC 6943, section 3.1.1, strict form), IPv6 as RFC 4291 and 5952 write it, both checked by
`ipaddress`, which knows IANA's registries of special-purpose addresses; MAC in six pairs of hexadecimal digits.

The prefix of a network is no one's address: one that a length stands behind ("2a00::/12") with no bit set beyond it,
and an IPv6 address whose last 64 bits, which tell hosts apart (RFC 4291, section 2.5.1), are zero.
"""

import ipaddress
import re
from collections.abc import Iterator

from lmworks.data.annotate.pii.context import Regions, before
from lmworks.data.annotation import Mark

RULE, SPECIAL, MAC = "pii.ip", "pii.ip_special", "pii.mac"

_V4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9])")
_VERSION = re.compile(r"(?:\bv|(?:version|release|build|\bsection|chapter)s?|firmware|§)[^\w<>]{0,3}\Z", re.IGNORECASE)
# What numbers a section: in a heading, at a line's start before a point and a title, behind a word with a no-break
# space; or a version, behind a name with a hyphen; and three such numbers, which the fourth is a part of.
_QUAD = r"[0-9]{1,2}(?:\.[0-9]{1,2}){3}(?!\w|\.[0-9])"
_SECTION = re.compile(
    rf"(?:^[ \t]*(?:#{{1,6}}[ \t]+|(?:[*+-][ \t]+)?\[?(?=[0-9.]+\.[ \t\u00a0]+[^\W\d_]))"
    rf"|(?<=\w[\u00a0\u202f]|[^\W\d_]-)){_QUAD}"
    r"|(?<![\w.])[0-9]{1,2}(?:\.[0-9]{1,2}){2}(?!\w|\.[0-9])",
    re.MULTILINE,
)
_HEXADECIMAL_BACKWARDS = re.compile(r"[0-9A-Fa-f:]{1,6}")
_V6 = re.compile(r"[0-9A-Fa-f:]{2,45}+(?:(?<=[0-9])(?:\.[0-9]{1,3}){3})?")
_V6_GROUP = re.compile(r"(?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]{3,4}")
_MAC = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?!\w|[:-][0-9A-Fa-f])")
_LENGTH = re.compile(r"/([0-9]{1,3})(?!\w)")  # of a prefix, in bits (RFC 4632, section 3.1)
_DOCUMENTATION = "00005e0053"  # RFC 7042, section 2.1.2
_SURE, _EVEN, _UNLIKELY, _NOBODY = 0.9, 0.5, 0.3, 0.1


def find_ipv4(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks in regions of digits and separators. Four numbers that are rather a version or a section score 0.3."""
    sections: set[str] | None = None
    for start, end in regions:
        for match in _V4.finditer(text, start, end + 2):
            try:
                address = ipaddress.IPv4Address(match[0])
            except ValueError:
                continue
            rule, score = _classify(address)
            if rule == RULE and _is_prefix(address, text, match.end()):
                score = _NOBODY
            elif rule == RULE and (_like_a_version(address) or _VERSION.search(before(text, match.start(), 12))):
                score = _UNLIKELY
            elif rule == RULE and max(address.packed) < 100:  # of one address in forty
                if sections is None:
                    sections = {found[0].lstrip(" \t#*+-[") for found in _SECTION.finditer(text)}
                if match[0] in sections or match[0].rpartition(".")[0] in sections:
                    score = _UNLIKELY
            yield Mark(rule, *match.span(), score)


def find_colon_addresses(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of IPv6 and MAC addresses; each region begins with the first colon that has a second one behind it."""
    for colon, _ in regions:
        backwards = _HEXADECIMAL_BACKWARDS.match(text[max(0, colon - 6) : colon][::-1])
        if backwards is None or backwards.end() > 5:
            continue
        start = colon - backwards.end()
        yield from _mac(text, start) or _ipv6(text, start)


def find_hyphen_addresses(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of MAC addresses with hyphens; each region begins with the first hyphen."""
    for hyphen, _ in regions:
        yield from _mac(text, hyphen - 2)


def _ipv6(text: str, start: int) -> list[Mark]:
    run = _V6.match(text, start, start + 64)
    if run is None or (start and (text[start - 1].isalnum() or text[start - 1] in "_.")):
        return []
    written = run[0][:-1] if run[0].endswith(":") and not run[0].endswith("::") else run[0]
    after = text[start + len(written) : start + len(written) + 1]
    # `a[1::2]` and `abc::def` are code.
    if after.isalnum() or after == "_" or (written.count(":") < 3 and not _V6_GROUP.search(written)):
        return []
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return []
    rule, score = _classify(address.ipv4_mapped or address)
    if address.ipv4_mapped is None and _is_prefix(address, text, start + len(written)):
        score = _NOBODY
    return [Mark(rule, start, start + len(written), score)]


def _mac(text: str, start: int) -> list[Mark]:
    match = _MAC.match(text, start, start + 19) if start >= 0 else None
    if match is None:
        return []
    digits = match[0].replace(match[1], "").lower()
    first = int(digits[:2], 16)
    if digits.startswith(_DOCUMENTATION) or first & 1 or not int(digits, 16):  # first & 1: a group, not a device
        score = _NOBODY
    else:
        score = _EVEN if match[1] == "-" and digits.isdigit() else _SURE
    return [Mark(MAC, *match.span(), score)]


def _classify(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[str, float]:
    return (RULE, _SURE) if address.is_global and not address.is_multicast else (SPECIAL, _NOBODY)


def _is_prefix(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str, end: int) -> bool:
    """Whether an address that ends at `end` is that of a network."""
    if isinstance(address, ipaddress.IPv6Address) and not int(address) & (2**64 - 1):
        return True
    length = _LENGTH.match(text, end, end + 5)
    bits = address.max_prefixlen - int(length[1]) if length else 0
    return bits > 0 and not int(address) & (2**bits - 1)


def _like_a_version(address: ipaddress.IPv4Address) -> bool:
    return address.packed[3] == 0 or max(address.packed) < 10
