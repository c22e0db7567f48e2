"""Texts of JSON schemas, as expressions: formats, and JSON inside a string.

A format is an assertion here, not an annotation: what is generated has it. Those that say what a text is for, such as
`password`, or what must be so in the world, such as `file-path`, restrict no text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from lmworks.generate.constraint import ConstraintError
from lmworks.generate.unique_items import target

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
LARGEST = (1 << 63) - 1024  # the largest double that the library takes for a bound


def _pattern(expression: str) -> dict[str, Any]:
    return {"pattern": f"^({expression})$"}


def _lengths(least: int, most: int) -> str:
    return f"/({'|'.join(map(str, range(least, most + 1)))})"


_V4, _V6 = {"format": "ipv4"}, {"format": "ipv6"}
_FULL_V4, _FULL_V6 = rf"({_OCTET}\.){{3}}{_OCTET}", f"({_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}"
# Of a network, whole groups are written, and zeros after them.
_V4_NETWORK = _pattern("|".join(
    [f"{_FULL_V4}/32", *(rf"({_OCTET}\.){{{n}}}0(\.0){{{3 - n}}}{_lengths(8 * n, 32)}" for n in range(4))]
))  # fmt: skip
_V6_NETWORK = _pattern("|".join(
    [f"{_FULL_V6}/128", *(f"({_HEX}{{1,4}}:){{{n}}}:{':' * (n == 0)}{_lengths(16 * n, 128)}" for n in range(8))]
))  # fmt: skip
_V4_INTERFACE, _V6_INTERFACE = _pattern(_FULL_V4 + _lengths(0, 32)), _pattern(_FULL_V6 + _lengths(0, 128))

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
    "multi-host-uri": {"format": "uri"},
    **dict.fromkeys(("base64", "byte"), _pattern("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")),
    "base64url": _pattern("([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)?"),
    "uuid": _pattern(f"{_HEX}{{8}}-({_HEX}{{4}}-){{3}}{_HEX}{{12}}"),
    **{f"uuid{version}": _pattern(f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}")
       for version in range(1, 9)},
    **{f"{sign}int{bits}": {"minimum": low, "maximum": low + (1 << bits) - 1}
       for bits in (8, 16, 32) for sign, low in (("", -1 << bits - 1), ("u", 0))},
    "int64": {"minimum": -LARGEST, "maximum": LARGEST},
    "uint64": {"minimum": 0, "maximum": LARGEST},
    "ipvanyaddress": {"anyOf": [_V4, _V6]},
    "ipv4network": {"anyOf": [_V4, _V4_NETWORK]},
    "ipv6network": {"anyOf": [_V6, _V6_NETWORK]},
    "ipvanynetwork": {"anyOf": [_V4, _V6, _V4_NETWORK, _V6_NETWORK]},
    "ipv4interface": {"anyOf": [_V4, _V4_INTERFACE]},
    "ipv6interface": {"anyOf": [_V6, _V6_INTERFACE]},
    "ipvanyinterface": {"anyOf": [_V4, _V6, _V4_INTERFACE, _V6_INTERFACE]},
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# JSON inside a string

_DEEPEST = 3  # arrays and objects inside each other
_SCALARS = {
    "null": "null",
    "boolean": "(true|false)",
    "integer": r"-?(0|[1-9]\d{0,14})",
    "number": r"-?(0|[1-9]\d{0,14})(\.\d{1,9})?",
    "string": r'"([^"\\\x00-\x1f\x7f]|\\["\\bfnrt])*"',
}


def json_text(schema: Any, pointer: str, whole: Any, depth: int = _DEEPEST) -> str:
    """An expression of JSON texts that the schema accepts; ConstraintError for keywords that it cannot say.

    No expression has all of JSON, so this one has less than the schema allows: no white space, all properties that are
    listed and no others, and no more than so many arrays and objects inside each other.
    """

    def inner(subschema: Any, less: int = 1) -> str:
        return json_text(subschema, pointer, whole, depth - less)

    def quoted(value: Any) -> str:
        return re.escape(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    match target(schema, whole) if depth >= 0 else None:
        case {"enum": list(values), **rest} if rest in ({}, {"type": "string"}) and {*map(type, values)} == {str}:
            options = map(quoted, values)
        case {"anyOf": list(parts), **rest} if not rest:
            options = (inner(subschema, 0) for subschema in parts)
        case {"type": "array", **rest} if rest.keys() <= {"items"}:
            item = inner(rest.get("items", True))
            options = [rf"\[({item}(,{item})*)?\]"]
        case {"type": "object", "properties": named, **rest} if (
            rest.keys() <= {"additionalProperties", "required"} and set(rest.get("required", ())) <= named.keys()
        ):
            options = [rf"\{{{','.join(f'{quoted(name)}:{inner(subschema)}' for name, subschema in named.items())}\}}"]
        case {"type": "object", **rest} if rest.keys() <= {"additionalProperties"}:
            item = f"{_SCALARS['string']}:{inner(rest.get('additionalProperties', True))}"
            options = [rf"\{{({item}(,{item})*)?\}}"]
        case {"type": str(kind), **rest} if kind in _SCALARS and not rest:
            options = [_SCALARS[kind]]
        case free if free in (True, {}):
            options = [*_SCALARS.values(), *(inner({"type": kind}, 0) for kind in ("array", "object") if depth > 1)]
        case _:
            raise ConstraintError(
                f"{pointer}: use type, properties, items, anyOf or texts alone, {_DEEPEST} levels deep"
            )
    return f"({'|'.join(options)})"
