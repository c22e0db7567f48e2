"""JSON schemas and regular expressions before they are compiled: what is not honoured is refused, by name and place.

A keyword that a compiler passes over in silence is worse than one that it lacks: the text would look as if it had been
checked. So only keywords on the lists below are let through.
"""

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from lmworks.generate.constraint import ConstraintError

ANNOTATIONS = frozenset(
    ("$schema", "$id", "id", "$anchor", "$comment", "title", "description", "default", "examples", "example",
     "readOnly", "writeOnly", "deprecated")
)  # fmt: skip
_OF_SCHEMAS_BY_NAME = frozenset(("$defs", "definitions", "properties", "patternProperties"))
_OF_SCHEMAS_IN_ORDER = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_OF_ONE_SCHEMA = frozenset(("additionalProperties", "items"))
_OF_VALUES = frozenset(
    ("$ref", "const", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "maxLength",
     "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern",
     "required", "type")
)  # fmt: skip

_HINTS = {
    "nullable": 'list "null" among the types instead',
    "additionalItems": "use prefixItems for the first items and items for those after them",
    **dict.fromkeys(("dependencies", "dependentRequired", "dependentSchemas"), "use anyOf of the complete objects"),
    **dict.fromkeys(("if", "then", "else"), "use anyOf of both cases instead"),
    "not": "say what is allowed instead, with enum, pattern or bounds",
    "contentEncoding": "use pattern instead",
    "contentMediaType": "use pattern instead",
    "unevaluatedProperties": "use additionalProperties in the complete object instead",
}

_DAY = (
    r"(\d{4}-(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|\d{4}-(0[469]|11)-(0[1-9]|[12]\d|30)|\d{4}-02-(0[1-9]|1\d|2[0-8])"
    r"|(\d{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
# Of RFC 3339: the 29th of February in leap years only; no leap second, whose minute a pattern cannot know.
_PATTERNS = {"date": f"^{_DAY}$", "time": f"^{_TIME}$", "date-time": f"^{_DAY}T{_TIME}$"}
_COMPILED_FORMATS = frozenset(("duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
FORMATS = frozenset(_PATTERNS) | _COMPILED_FORMATS


_NOTHING_ASKED = (("uniqueItems", False), ("nullable", False))  # what generators of schemas write for the default


def prepare_schema(text: str) -> dict[str, Any]:
    """The schema, checked, with dates and times written as patterns.

    ConstraintError names the keyword of what is not supported and its place (a JSON pointer).
    """
    try:
        schema = _prepare(json.loads(text, parse_constant=_no_constant), "#")
    except ConstraintError:
        raise
    except RecursionError as error:
        raise ConstraintError("the JSON schema is nested too deeply: use $ref for what repeats") from error
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"the JSON schema is not JSON: {error}") from error
    if schema is False:
        raise ConstraintError("the JSON schema false accepts no value: use {} for any")
    return {} if schema is True else schema


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _prepare(schema: Any, place: str) -> Any:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise ConstraintError(f"{place}: a JSON schema is an object, true or false, got {_short(schema)}")
    result = {}
    for keyword, value in schema.items():
        here = f"{place}/{keyword}"
        if keyword in ANNOTATIONS or (keyword, value) in _NOTHING_ASKED:
            if keyword in ("$id", "$anchor", "$schema"):  # what references are resolved by
                result[keyword] = value
        elif keyword in _OF_SCHEMAS_BY_NAME:
            result[keyword] = {name: _prepare(one, f"{here}/{name}") for name, one in _a(dict, value, here).items()}
        elif keyword in _OF_SCHEMAS_IN_ORDER:
            result[keyword] = [_prepare(one, f"{here}/{number}") for number, one in enumerate(_a(list, value, here))]
        elif keyword in _OF_ONE_SCHEMA:
            result[keyword] = _prepare(value, here)
        elif keyword in _OF_VALUES:
            _check_value(keyword, value, here)
            result[keyword] = value
        else:
            hint = _HINTS.get(keyword, "remove it, or check it in the finished text")
            raise ConstraintError(f"{place}: the JSON schema keyword {keyword!r} is not supported: {hint}")
    for name in result.get("patternProperties", ()):
        check_expression(name, f"{place}/patternProperties:")
    _check_least_properties(result, place)
    return _with_formats_as_patterns(result)


def _a(kind: type, value: Any, place: str) -> Any:
    if not isinstance(value, kind):
        wanted = {dict: "an object", list: "an array", str: "a string"}[kind]
        raise ConstraintError(f"{place} must be {wanted}, got {_short(value)}")
    return value


def _check_value(keyword: str, value: Any, place: str) -> None:
    match keyword:
        case "pattern":
            check_expression(_a(str, value, place), f"{place}:")
        case "format" if _a(str, value, place) not in FORMATS:
            raise ConstraintError(
                f"{place}: the format {value!r} is not supported: use one of {', '.join(sorted(FORMATS))}, or a pattern"
            )
        case "$ref" if not _a(str, value, place).startswith("#"):
            raise ConstraintError(f"{place}: {value!r} lies outside the schema: copy it into $defs and refer to that")
        case "exclusiveMinimum" | "exclusiveMaximum" if isinstance(value, bool):
            raise ConstraintError(f"{place} must be a number (a boolean was draft 4's), got {_short(value)}")
        case "multipleOf" if isinstance(value, int | float) and value <= 0:  # the library refuses what is no number
            raise ConstraintError(f"{place} must be above 0, got {_short(value)}")
        case "required":
            for name in _a(list, value, place):
                _a(str, name, place)


def _check_least_properties(schema: Mapping[str, Any], place: str) -> None:
    """Properties that are not listed may come twice under one name, so that counting them does not count names."""
    least = schema.get("minProperties", 0)
    closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    if isinstance(least, int) and least > max(1, len(schema.get("required", ()))) and not closed:
        raise ConstraintError(
            f"{place}: minProperties {least} is not supported where properties are not listed: name them under "
            "properties and required"
        )


def _with_formats_as_patterns(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("format") not in _PATTERNS:
        return schema
    pattern = _PATTERNS[schema["format"]]
    rest = {keyword: value for keyword, value in schema.items() if keyword != "format"}
    if "pattern" not in rest:
        return {**rest, "pattern": pattern}
    return {**rest, "allOf": [*rest.get("allOf", ()), {"pattern": pattern}]}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------------------------------------------------------------
# Regular expressions that mean the same to Python's `re` and to the matcher

_CLASS_OR_ESCAPE = re.compile(r"\\p\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_FLAGS = re.compile(r"\(\?([a-zA-Z]*-?[a-zA-Z]*)[:)]")
_UNSUPPORTED = {
    r"[*+?}]\+": "possessive repetition (a++)",
    r"\(\?[=!<](?!\w+>)": "look-around",
    r"\(\?P=|\(\?\(": "references to groups",
    r"\(\?>": "atomic groups",
    r"(?<!^)\^|\$(?!$)": "^ and $ inside the expression",
}


def check_expression(pattern: str, where: str = "the expression") -> None:
    """ConstraintError for an expression that is none, or that the matcher would understand differently.

    `\\d`, `\\w` and `\\s` are ASCII. Python has no `\\p{…}`, which the matcher does: it is checked there.
    """
    plain = re.sub(r"\\p\{\^?\w+(=\w+)?\}", "a", pattern, flags=re.IGNORECASE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # `re` warns of what other dialects read as operations on sets
        try:
            re.compile(plain, re.ASCII)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ConstraintError(f"{where} {_short(pattern)} is not a regular expression: {error}") from error
    bare = _CLASS_OR_ESCAPE.sub("_", pattern)
    for found in _FLAGS.finditer(bare):
        if found[1] not in ("", "s"):
            raise ConstraintError(
                f"{where} {_short(pattern)} sets the flag {found[1]!r}: write it out, such as [Aa] for (?i:a)"
            )
    for sign, name in _UNSUPPORTED.items():
        if re.search(sign, bare):
            raise ConstraintError(f"{where} {_short(pattern)} uses {name}, which is not supported: write it without")
