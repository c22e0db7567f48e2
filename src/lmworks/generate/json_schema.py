"""JSON schemas and regular expressions before they are compiled: what is not honoured is refused, by name and place.

A keyword that a compiler passes over in silence is worse than one that it lacks: the text would look as if it had been
checked. So only keywords on the lists below are let through, and those that the matcher's library lacks are written
with others that it has (`json_keywords.py`).
"""

import json
import math
import re
import warnings
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin

from lmworks.generate.constraint import ConstraintError
from lmworks.generate.json_formats import FORMATS, LARGEST
from lmworks.generate.json_keywords import lower
from lmworks.generate.schema_document import DIFFERENT_ITEMS, SchemaDocument, escaped, literals

ANNOTATIONS = frozenset(
    ("$schema", "$comment", "title", "description", "default", "discriminator", "examples", "example", "readOnly",
     "writeOnly", "deprecated")
)  # fmt: skip
_NAMES = frozenset(("$id", "id", "$anchor", "$dynamicAnchor"))  # of the schema itself, for references
_OF_SCHEMAS_BY_NAME = frozenset(("$defs", "definitions", "dependentSchemas", "properties", "patternProperties"))
_OF_SCHEMAS_IN_ORDER = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_OF_ONE_SCHEMA = frozenset(
    ("additionalProperties", "contentSchema", "else", "if", "items", "not", "propertyNames", "then")
)
# Where schemas are found no more once `json_keywords.py` has written them with other keywords.
_REWRITTEN = (_OF_ONE_SCHEMA - {"additionalProperties", "items"}) | {"dependentSchemas", "oneOf"}
_COUNTS = frozenset(("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"))
_BOUNDS = frozenset(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"))
_OF_VALUES = _COUNTS | _BOUNDS | frozenset(
    ("$ref", "const", "contentEncoding", "contentMediaType", "dependentRequired", "enum", "format", "multipleOf",
     "pattern", "required", "type", "uniqueItems")
)  # fmt: skip

_HINTS = {
    "nullable": 'list "null" among the types instead',
    "additionalItems": "use prefixItems for the first items and items for those after them",
    "dependencies": "use dependentRequired and dependentSchemas",
    "unevaluatedProperties": "use additionalProperties in the complete object instead",
}
_NOTHING_ASKED = (("uniqueItems", False), ("nullable", False))  # what generators of schemas write for the default


def prepare_schema(text: str) -> SchemaDocument:
    """The schema, checked, and written with the keywords that the library has.

    ConstraintError names the keyword of what is not supported and its place (a JSON pointer).
    """
    document = SchemaDocument()
    try:
        schema = _prepare(json.loads(text, parse_constant=_no_constant), "#", "", document)
        if document.controls:
            _check_closed(document)
        for part, base, place in document.references:
            _resolve(part, base, place, document)
        for place, part in document.parts.items():  # the inner ones first
            if isinstance(part, dict):
                lower(part, place, document)
    except ConstraintError:
        raise
    except RecursionError as error:
        raise ConstraintError("the JSON schema is nested too deeply: use $ref for what repeats") from error
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"the JSON schema is not JSON: {error}") from error
    if schema is False:
        raise ConstraintError("the JSON schema false accepts no value: use {} for any")
    if document.controls and document.unique:  # whose items are known by their text
        raise ConstraintError(f"{document.controls[0]} has control characters, which uniqueItems does not allow")
    for place, part in document.unique.items():
        values = literals(part.get("items"), document)
        if values is not None and part.get("minItems", 0) > len(values) and "prefixItems" not in part:
            raise ConstraintError(f"{place} wants {part['minItems']} different items, but there are {len(values)}")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _prepare(schema: Any, place: str, base: str, document: SchemaDocument) -> Any:
    if isinstance(schema, bool):
        document.parts[place] = schema
        return schema
    if not isinstance(schema, dict):
        raise ConstraintError(f"{place}: a JSON schema is an object, true or false, got {_short(schema)}")
    base = _name(schema, place, base, document)
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        here = f"{place}/{keyword}"
        if keyword in ANNOTATIONS | _NAMES or (keyword, value) in _NOTHING_ASKED:
            if keyword == "$schema":  # the draft by which it is read
                result[keyword] = value
        elif keyword in _OF_SCHEMAS_BY_NAME:
            result[keyword] = {
                name: _prepare(one, f"{here}/{escaped(name)}", base, document)
                for name, one in _a(dict, value, here).items()
            }
        elif keyword in _OF_SCHEMAS_IN_ORDER:
            parts = enumerate(_a(list, value, here))
            result[keyword] = [_prepare(one, f"{here}/{number}", base, document) for number, one in parts]
        elif keyword in _OF_ONE_SCHEMA:
            result[keyword] = _prepare(value, here, base, document)
        elif keyword in _OF_VALUES:
            result[keyword] = _checked(keyword, value, here, document)
        else:
            hint = _HINTS.get(keyword, "remove it, or check it in the finished text")
            raise ConstraintError(f"{place}: the JSON schema keyword {keyword!r} is not supported: {hint}")
    for name in result.get("patternProperties", ()):
        check_expression(name, f"{place}/patternProperties:")
        _note_controls(name, place, document)
    if "$ref" in result:
        document.references.append((result, base, place))
    if result.pop("uniqueItems", False):
        document.unique[place], result["$comment"] = result, DIFFERENT_ITEMS
    document.parts[place] = result
    return result


def _name(schema: Mapping[str, Any], place: str, base: str, document: SchemaDocument) -> str:
    """Notes the URIs by which references may name the schema; the base of those inside it."""
    if "$id" in schema:
        uri = _joined(base, _a(str, schema["$id"], f"{place}/$id")).removesuffix("#")
        document.resources[uri] = place
        base = urldefrag(uri)[0]
    for keyword in ("$anchor", "$dynamicAnchor"):
        if keyword in schema:
            document.resources[f"{base}#{schema[keyword]}"] = place
    return base


def _joined(base: str, uri: str) -> str:
    return base + uri if uri.startswith("#") else urljoin(base, uri)  # which knows no fragments of URNs


def _resolve(schema: dict[str, Any], base: str, place: str, document: SchemaDocument) -> None:
    """Makes of the reference a pointer from the root."""
    uri, fragment = urldefrag(_joined(base, schema["$ref"]))
    fragment = unquote(fragment)
    if fragment and not fragment.startswith("/"):
        target = document.resources.get(f"{uri}#{fragment}", "")
    else:
        target = document.resources.get(uri, "nowhere") + fragment
    if target not in document.parts and schema["$ref"].startswith("#"):
        target = unquote(schema["$ref"])  # programs that write schemas count from the root, whatever $id is between
    if target not in document.parts:
        raise ConstraintError(
            f"{place}/$ref: {schema['$ref']!r} lies outside the schema: copy it into $defs and refer to that"
        )
    if _REWRITTEN & set(target.split("/")):
        whole, part = document.parts["#"], document.parts[target]
        whole.setdefault("$defs", {})[target] = part
        target = f"#/$defs/{escaped(target)}"
        document.parts[target] = part
    schema["$ref"] = "#" + quote(target[1:], safe="/~")


def _a(kind: type, value: Any, place: str) -> Any:
    if not isinstance(value, kind):
        wanted = {bool: "true or false", dict: "an object", list: "an array", str: "a string"}[kind]
        raise ConstraintError(f"{place} must be {wanted}, got {_short(value)}")
    return value


def _checked(keyword: str, value: Any, place: str, document: SchemaDocument) -> Any:
    """The value of a keyword, as the library takes it."""
    match keyword:
        case "const":
            _check_literal(value, place, document)
        case "enum":
            for one in _a(list, value, place):
                _check_literal(one, place, document)
        case "pattern":
            check_expression(_a(str, value, place), f"{place}:")
            _note_controls(value, place, document)
        case "format" if _a(str, value, place) not in FORMATS:
            raise ConstraintError(
                f"{place}: the format {value!r} is not supported: use one of {', '.join(sorted(FORMATS))}, or a pattern"
            )
        case "contentEncoding" if value != "base64":
            raise ConstraintError(f"{place}: {_short(value)} is not supported: use base64, or a pattern")
        case "contentMediaType" if value != "application/json":
            raise ConstraintError(f"{place}: {_short(value)} is not supported: use application/json, or a pattern")
        case "$ref":
            _a(str, value, place)
        case "uniqueItems":
            _a(bool, value, place)
        case "exclusiveMinimum" | "exclusiveMaximum" if isinstance(value, bool):
            raise ConstraintError(f"{place} must be a number (a boolean was draft 4's), got {_short(value)}")
        case "multipleOf" if isinstance(value, int | float) and value <= 0:  # the library refuses what is no number
            raise ConstraintError(f"{place} must be above 0, got {_short(value)}")
        case "required" | "dependentRequired":
            lists = [value] if keyword == "required" else _a(dict, value, place).values()
            for name in (name for names in lists for name in _a(list, names, place)):
                _a(str, name, place)
    if keyword in _COUNTS and isinstance(value, float) and value.is_integer():
        return int(value)
    return _bound(keyword, value) if keyword in _BOUNDS and isinstance(value, int | float) else value


def _bound(keyword: str, value: float) -> float:
    """The nearest number inside that the library keeps: it counts in doubles, where 2**53 + 1 is 2**53."""
    downwards = keyword.lower().endswith("maximum")
    inside = min(value, LARGEST) if downwards else max(value, -LARGEST)
    if -(1 << 53) <= inside <= 1 << 53:
        return inside
    nearest = float(inside)
    if nearest > inside if downwards else nearest < inside:
        nearest = math.nextafter(nearest, -math.inf if downwards else math.inf)
    return int(nearest)  # whose digits the library reads as they stand


_CODE = "(?:0[0-7bBeEfF]|1[0-9a-fA-F]|7[fF])"
# Those for which JSON has no letter; the library leaves them out of a text where it may not write \u.
_CONTROL = re.compile(rf"[\x00-\x07\x0b\x0e-\x1f\x7f]|\\(?:x{_CODE}|u00{_CODE}|U000000{_CODE}|[av])")
_PIECE = re.compile(rf"(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<control>{_CONTROL.pattern})|\\.", re.DOTALL)


def _note_controls(expression: str, place: str, document: SchemaDocument) -> None:
    for piece in _PIECE.finditer(expression):
        if piece["control"] or (piece["set"] and not _CONTROL.sub("", piece["set"][1:-1]).strip("-")):
            document.controls.append(place)


def _check_literal(value: Any, place: str, document: SchemaDocument) -> None:
    """Notes control characters; ConstraintError for an integer that the library would change."""
    match value:
        case str():
            if any(_CONTROL.fullmatch(sign) for sign in value):
                document.controls.append(place)
        case int() if abs(value) > 1 << 53 and not _is_kept(value):
            raise ConstraintError(f"{place}: no double is {value}, and it would be changed: write it as a string")
        case list():
            for one in value:
                _check_literal(one, place, document)
        case dict():
            for one in value.values():
                _check_literal(one, place, document)


def _is_kept(value: int) -> bool:
    """The library writes integers below 2**63 as they are, others as the shortest digits of a double."""
    try:
        nearest = float(value)
    except OverflowError:
        return False
    return int(nearest) == value if abs(value) < 1 << 63 else Decimal(repr(nearest)) == value


_NAMING = frozenset(("dependentRequired", "dependentSchemas", "patternProperties", "properties", "required"))


def _check_closed(document: SchemaDocument) -> None:
    """ConstraintError where a control character could spell a name around what the schema says of it (`"\\u0061"`)."""
    for place, part in document.parts.items():
        if isinstance(part, dict) and part.keys() & _NAMING and part.get("additionalProperties", True) is not False:
            raise ConstraintError(
                f"{document.controls[0]} has control characters, which are not supported beside objects of further "
                f"names: add additionalProperties: false at {place}, or write it without them"
            )


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
