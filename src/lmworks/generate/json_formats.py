"""Formats of JSON schemas, as schemas of keywords that the matcher's library keeps.

A format is an assertion here, not an annotation: what is generated has it. Those that say what a text is for, such as
`password`, or what must be so in the world, such as `file-path`, restrict no text.
"""

from collections.abc import Mapping
from typing import Any

_DAY = (
    r"(\d{4}-(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|\d{4}-(0[469]|11)-(0[1-9]|[12]\d|30)|\d{4}-02-(0[1-9]|1\d|2[0-8])"
    r"|(\d{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_N = r"\d{1,6}"  # of which no sum is beyond what programs count in
_DAYS = f"{_N}D|{_N}M({_N}D)?|{_N}Y({_N}M({_N}D)?)?"
_CLOCK = f"T({_N}H({_N}M({_N}S)?)?|{_N}M({_N}S)?|{_N}S)"
_X, _Y = "[A-Za-z0-9]", "[A-Za-z0-9-]"
# No "--" at the third place: there begin encoded names, of which a pattern cannot tell the right ones.
_LABEL = f"{_X}({_X}|{_Y}{{1,2}}{_X}|{_Y}({_X}{_Y}|-{_X}){_Y}{{0,58}}{_X})?"
_OCTET = r"(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])"
_HEX = "[0-9A-Fa-f]"
_COUNT = r"(0|[1-9]\d*)"
_POINTER = "(/([^/~]|~[01])*)*"
_GROUP = f"{_HEX}{{1,4}}"


def _pattern(expression: str) -> dict[str, Any]:
    return {"pattern": f"^({expression})$"}


LARGEST = (1 << 63) - 1024  # the largest double that the library takes for a bound
BASE64 = _pattern("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _up_to(most: int) -> str:
    """The numbers from 0 to `most`, below 200."""
    return "|".join(map(str, range(most + 1)))


def _v4_networks() -> str:
    """Addresses whose bits after the length of the prefix are 0."""
    networks = [rf"{_OCTET}(\.{_OCTET}){{3}}/32", r"0\.0\.0\.0/0"]
    for length in range(1, 32):
        whole, bits = divmod(length, 8)
        cut = "|".join(str(value) for value in range(0, 256, 1 << 8 - bits)) if bits else ""
        octets = [_OCTET] * whole + ([f"({cut})"] if bits else [])
        networks.append(r"\.".join([*octets, *["0"] * (4 - len(octets))]) + f"/{length}")
    return "|".join(networks)


def _v6_networks() -> str:
    """Groups, and after them zeros that are not written; the prefix is at least as long as the groups."""
    parts = (
        rf"({_GROUP}:){{{count}}}:/({'|'.join(str(length) for length in range(16 * count, 129))})"
        for count in range(1, 8)
    )
    return "|".join((rf"({_GROUP}:){{7}}{_GROUP}/128", f"::/({_up_to(128)})", *parts))


_V4, _V6 = {"format": "ipv4"}, {"format": "ipv6"}
_NETWORKS = [_pattern(_v4_networks()), _pattern(_v6_networks())]
_INTERFACES = [
    _pattern(rf"{_OCTET}(\.{_OCTET}){{3}}/({_up_to(32)})"),
    _pattern(rf"({_GROUP}:){{7}}{_GROUP}/({_up_to(128)})"),
]

# Of the library's own, None. Days are of RFC 3339: the 29th of February in leap years only; times have no leap second,
# whose minute a pattern cannot know.
FORMATS: Mapping[str, Mapping[str, Any] | None] = {
    **dict.fromkeys(("email", "ipv4", "ipv6", "uri")),
    **{name: {} for name in ("binary", "directory-path", "double", "file-path", "float", "password", "path")},
    "date": _pattern(_DAY),
    "time": _pattern(_TIME),
    "date-time": _pattern(f"{_DAY}T{_TIME}"),
    "duration": _pattern(f"P(({_DAYS})({_CLOCK})?|{_CLOCK}|{_N}W)"),
    "hostname": {**_pattern(rf"{_LABEL}(\.{_LABEL})*"), "maxLength": 253},
    "json-pointer": _pattern(_POINTER),
    "relative-json-pointer": _pattern(rf"{_COUNT}([+-][1-9]\d*)?(#|{_POINTER})"),
    "multi-host-uri": {"format": "uri"},
    "base64": BASE64,
    "base64url": _pattern("([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)?"),
    "byte": BASE64,
    "uuid": _pattern(f"{_HEX}{{8}}-({_HEX}{{4}}-){{3}}{_HEX}{{12}}"),
    **{f"uuid{version}": _pattern(f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}")
       for version in range(1, 9)},
    **{f"{sign}int{bits}": {"minimum": low, "maximum": low + (1 << bits) - 1}
       for bits in (8, 16, 32) for sign, low in (("", -1 << bits - 1), ("u", 0))},
    "int64": {"minimum": -LARGEST, "maximum": LARGEST},
    "uint64": {"minimum": 0, "maximum": LARGEST},
    "ipvanyaddress": {"anyOf": [_V4, _V6]},
    "ipv4network": {"anyOf": [_V4, _NETWORKS[0]]},
    "ipv6network": {"anyOf": [_V6, _NETWORKS[1]]},
    "ipvanynetwork": {"anyOf": [_V4, _V6, *_NETWORKS]},
    "ipv4interface": {"anyOf": [_V4, _INTERFACES[0]]},
    "ipv6interface": {"anyOf": [_V6, _INTERFACES[1]]},
    "ipvanyinterface": {"anyOf": [_V4, _V6, *_INTERFACES]},
}  # fmt: skip
