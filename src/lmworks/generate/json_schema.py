"""JSON schemas and regular expressions before they are compiled: what is not honoured is refused, by name and place.

A keyword that a compiler passes over in silence is worse than one that it lacks: the text would look as if it had been
checked. So only keywords on the lists below are let through, and those that the matcher's library lacks are written
with others that it has.
"""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urljoin

from lmworks.generate.constraint import ConstraintError
from lmworks.generate.json_formats import FORMATS, LARGEST, json_text
from lmworks.generate.unique_items import DIFFERENT_ITEMS, canonical, literals, target

_ANNOTATIONS = frozenset(
    ("$comment", "title", "description", "default", "discriminator", "examples", "example", "readOnly", "writeOnly",
     "deprecated", "$id", "id", "$anchor", "$dynamicAnchor")
)  # fmt: skip
_OF_SCHEMAS_BY_NAME = frozenset(("$defs", "definitions", "dependentSchemas", "properties", "patternProperties"))
_OF_SCHEMAS_IN_ORDER = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_OF_ONE_SCHEMA = frozenset(("additionalProperties", "contentSchema", "items", "not", "propertyNames"))
_COUNTS = ("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties")
_BOUNDS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum")
_OF_VALUES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("const", "$schema"), object),
    **dict.fromkeys(("$ref", "contentMediaType", "format", "pattern"), str),
    **dict.fromkeys((*_COUNTS, *_BOUNDS, "multipleOf"), (int, float)),
    "dependentRequired": dict, "enum": list, "required": list, "type": (str, list), "uniqueItems": bool,
}  # fmt: skip
_IN_WORDS = {bool: "true or false", dict: "an object", list: "an array", str: "a string", (int, float): "a number"}
_CHOICES = {"contentMediaType": ("application/json",), "format": sorted(FORMATS)}
# Where schemas are found no more once they are written with other keywords.
_REWRITTEN = frozenset(("contentSchema", "dependentSchemas", "not", "propertyNames"))

_HINTS = {
    "contentEncoding": "use the format base64",
    "nullable": 'list "null" among the types instead',
    "additionalItems": "use prefixItems for the first items and items for those after them",
    "dependencies": "use dependentRequired and dependentSchemas",
    "unevaluatedProperties": "use additionalProperties in the complete object instead",
}


# Parts of a schema by their places (`#/…`) and URIs, each with its place and the URI at which its references begin.
_Registry = dict[str, tuple[Any, str, str]]


def prepare_schema(text: str) -> dict[str, Any]:
    """The schema, checked, and written with the keywords that the library has; arrays of different items are marked.

    ConstraintError names the keyword of what is not supported and its place (a JSON pointer).
    """
    registry: _Registry = {}
    try:
        schema = _prepare(json.loads(text, parse_constant=int), "#", "", registry)  # int takes no NaN
        subschemas = [
            subschema for name, subschema in registry.items() if name == subschema[1] and isinstance(subschema[0], dict)
        ]
        for subschema in subschemas:
            if "$ref" in subschema[0]:
                _resolve(*subschema, registry)
        for subschema, pointer, _ in subschemas:  # the inner ones first
            _lower(subschema, pointer, schema)
    except ConstraintError:
        raise
    except RecursionError as error:
        raise ConstraintError("the JSON schema is nested too deeply: use $ref for what repeats") from error
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"the JSON schema is not JSON: {error}") from error
    if schema is False:
        raise ConstraintError("the JSON schema false accepts no value: use {} for any")
    return {} if schema is True else schema


def _prepare(schema: Any, pointer: str, base: str, registry: _Registry) -> Any:
    if isinstance(schema, bool):
        registry[pointer] = schema, pointer, base
        return schema
    if not isinstance(schema, dict):
        raise ConstraintError(f"{pointer}: a JSON schema is an object, true or false, got {_short(schema)}")
    uris = [pointer, *([""] if pointer == "#" else [])]
    if "$id" in schema:
        base, _ = urldefrag(_joined(base, _a(str, schema["$id"], f"{pointer}/$id")))
        uris.append(base)
    uris += [f"{base}#{schema[keyword]}" for keyword in ("$anchor", "$dynamicAnchor") if keyword in schema]
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        here = f"{pointer}/{keyword}"
        if keyword in _ANNOTATIONS or (keyword, value) in (("nullable", False), ("uniqueItems", False)):
            pass
        elif keyword in _OF_SCHEMAS_BY_NAME:
            escaped = {name: name.replace("~", "~0").replace("/", "~1") for name in _a(dict, value, here)}
            result[keyword] = {
                name: _prepare(value[name], f"{here}/{at}", base, registry) for name, at in escaped.items()
            }
        elif keyword in _OF_SCHEMAS_IN_ORDER:
            options = enumerate(_a(list, value, here))
            result[keyword] = [_prepare(subschema, f"{here}/{number}", base, registry) for number, subschema in options]
        elif keyword in _OF_ONE_SCHEMA:
            result[keyword] = _prepare(value, here, base, registry)
        elif keyword in _OF_VALUES:
            result[keyword] = _checked(keyword, _a(_OF_VALUES[keyword], value, here), here)
        else:
            hint = _HINTS.get(keyword, "remove it, or check it in the finished text")
            raise ConstraintError(f"{pointer}: the JSON schema keyword {keyword!r} is not supported: {hint}")
    for name in result.get("patternProperties", ()):
        _check_pattern(name, f"{pointer}/patternProperties")
    if "const" in result and "enum" not in result:
        result["enum"] = [result.pop("const")]
    if result.pop("uniqueItems", False):
        result["$comment"] = DIFFERENT_ITEMS
    registry.update(dict.fromkeys(uris, (result, pointer, base)))
    return result


def _joined(base: str, uri: str) -> str:
    return base + uri if uri.startswith("#") else urljoin(base, uri)  # which knows no fragments of URNs


def _resolve(schema: dict[str, Any], pointer: str, base: str, registry: _Registry) -> None:
    """Makes of the reference a pointer from the root."""
    uri, fragment = urldefrag(_joined(base, schema["$ref"]))
    whole, fragment = registry.get(uri, (None, "nowhere", ""))[1], unquote(fragment)
    # Programs that write schemas count from the root, whatever $id is between.
    for name in (f"{uri}#{fragment}", whole + fragment, unquote(schema["$ref"])):
        at = registry.get(name, (None, "", ""))[1]
        if at and not _REWRITTEN & set(at.split("/")):
            schema["$ref"] = "#" + quote(at[1:], safe="/~")
            return
    raise ConstraintError(f"{pointer}/$ref: {schema['$ref']!r} is no part of the schema: copy it into $defs")


def _a(kind: type | tuple[type, ...], value: Any, pointer: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
        raise ConstraintError(f"{pointer} must be {_IN_WORDS.get(kind, 'a string or an array')}, got {_short(value)}")
    return value


def _checked(keyword: str, value: Any, pointer: str) -> Any:
    """The value of a keyword, as the library takes it."""
    if keyword in _CHOICES and value not in _CHOICES[keyword]:
        raise ConstraintError(
            f"{pointer}: use a pattern, or one of {', '.join(_CHOICES[keyword])}, not {_short(value)}"
        )
    if (keyword == "multipleOf" and value <= 0) or (keyword in _COUNTS and (value < 0 or value % 1)):
        raise ConstraintError(
            f"{pointer} must be {'0, 1, …' if keyword in _COUNTS else 'above 0'}, got {_short(value)}"
        )
    if keyword in _BOUNDS:
        value = min(value, LARGEST) if keyword.lower().endswith("maximum") else max(value, -LARGEST)
    if keyword in ("const", "enum", *_BOUNDS):
        _check_literal(value, pointer)
    if keyword == "pattern":
        _check_pattern(value, pointer)
    return int(value) if keyword in _COUNTS else value


# Characters for which JSON has no letter; the library leaves them out of a text.
_CODE = "(?:0[0-7bBeEfF]|1[0-9a-fA-F]|7[fF])"
_CONTROL = re.compile(rf"[\x00-\x07\x0b\x0e-\x1f\x7f]|\\(?:x{_CODE}|u00{_CODE}|U000000{_CODE}|[av])")
_PIECE = re.compile(rf"(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<control>{_CONTROL.pattern})|\\.", re.DOTALL)


def _check_pattern(expression: str, pointer: str) -> None:
    check_expression(expression, f"{pointer}:")
    for piece in _PIECE.finditer(expression):
        if piece["control"] or (piece["set"] and not _CONTROL.sub("", piece["set"][1:-1]).strip("-")):
            raise ConstraintError(f"{pointer}: control characters such as U+0000 are not supported: leave them out")


def _check_literal(value: Any, pointer: str) -> None:
    """ConstraintError for what the library would change."""
    match value:
        case str() if any(_CONTROL.fullmatch(sign) for sign in value):
            raise ConstraintError(f"{pointer}: control characters such as U+0000 are not supported: leave them out")
        case int() if abs(value) > 1 << 53 and (abs(value) > LARGEST or int(float(value)) != value):
            raise ConstraintError(f"{pointer}: no double is {_short(value)}: it would be changed: use a string")
        case list() | dict():
            for item in value.values() if isinstance(value, dict) else value:
                _check_literal(item, pointer)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------------------------------------------------------------
# Keywords that the library lacks, in those that it has


_TYPES = ("null", "boolean", "number", "string", "array", "object")


def _lower(schema: dict[str, Any], pointer: str, whole: Any) -> None:
    """Writes a schema again, in place, when its parts are; ConstraintError for what has no other keywords."""
    for more in list(_in_other_keywords(schema, pointer, whole)):
        schema.update({"allOf": [*schema.get("allOf", ()), more]} if more.keys() & schema.keys() else more)
    least = schema.get("minProperties", 0)
    closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    if least > max(1, len(schema.get("required", ()))) and not closed:  # others may come twice under one name
        raise ConstraintError(f"{pointer}: minProperties {least} needs as many names under properties and required")
    known, least = literals(schema.get("items"), whole), schema.get("minItems", 0)
    if "$comment" in schema and known is not None and least > len(known) and "prefixItems" not in schema:
        raise ConstraintError(f"{pointer} wants {least} different items, but there are {len(known)}")


def _in_other_keywords(schema: dict[str, Any], pointer: str, whole: Any) -> Iterator[Mapping[str, Any]]:
    if FORMATS.get(schema.get("format", "")) is not None:
        yield FORMATS[schema.pop("format")] or {}
    media, content = schema.pop("contentMediaType", None), schema.pop("contentSchema", True)
    if media is not None:
        yield {"pattern": f"^{json_text(content, f'{pointer}/contentSchema', whole)}$"}
    if "propertyNames" in schema:
        yield _named(schema, target(schema.pop("propertyNames"), whole), pointer)
    if "not" in schema:
        yield {"allOf": [_complement(schema.pop("not"), f"{pointer}/not", whole)]}
    for first, second in combinations(schema.get("oneOf", ()), 2):  # the library takes it for anyOf
        if not _are_disjoint(first, second, whole):
            yield {"anyOf": [_complement(option, f"{pointer}/oneOf", whole) for option in (first, second)]}
    for name, names in schema.pop("dependentRequired", {}).items():
        yield {"anyOf": [{"properties": {name: False}}, {"required": names}]}
    for name, dependent in schema.pop("dependentSchemas", {}).items():
        yield {"anyOf": [{"properties": {name: False}}, dependent]}


def _named(schema: dict[str, Any], names: Any, pointer: str) -> dict[str, Any]:
    """Properties by name or by pattern, and no others, instead of `propertyNames`."""
    if names in (True, {}, {"type": "string"}):
        return {}
    additional, beside = schema.pop("additionalProperties", True), schema.keys() & {"properties", "patternProperties"}
    asked: Any = {"enum": []} if names is False else {k: v for k, v in names.items() if (k, v) != ("type", "string")}
    match None if beside else asked:
        case {"enum": list(values), **more} if not more:
            named = {"properties": {name: additional for name in values if isinstance(name, str)}}
        case {"pattern": expression, **more} if not more:
            named = {"patternProperties": {expression: additional}}
        case {**lengths} if lengths.keys() <= {"minLength", "maxLength"}:
            least, most = lengths.get("minLength", 0), lengths.get("maxLength", "")
            named = {"patternProperties": {f"^(?s:.){{{least},{most}}}$": additional}}
        case _:
            raise ConstraintError(
                f"{pointer}/propertyNames: use enum, pattern or lengths alone, or name all properties"
            )
    return {**named, "additionalProperties": False}


def _complement(schema: Any, pointer: str, whole: Any) -> Any:
    """The schema of what the schema does not accept, but for some numbers; ConstraintError where none can say it."""
    schema = target(schema, whole)
    if isinstance(schema, bool):
        return not schema
    options: list[Any] = []
    for keyword, value in schema.items():
        match keyword:
            case "type":  # of numbers, those that are no integers have no keyword
                options.append({"type": [kind for kind in _TYPES if kind not in _types(schema)]})
            case "required":
                options += [{"type": "object", "properties": {name: False}} for name in value]
            case "properties":
                complements = {name: _complement(subschema, pointer, whole) for name, subschema in value.items()}
                options += [{"type": "object", "properties": {n: o}, "required": [n]} for n, o in complements.items()]
            case _:
                raise ConstraintError(
                    f"{pointer}: what is not {keyword!r} is not supported: say what is allowed instead"
                )
    return {"anyOf": options} if options else False


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type", _TYPES)
    return {"number" if kind == "integer" else kind for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _are_disjoint(first: Any, second: Any, whole: Any, depth: int = 0) -> bool:
    """Whether it is plain that no value is of both: by their types, their values, or those of a required property."""
    first, second = target(first, whole), target(second, whole)
    if isinstance(first, bool) or isinstance(second, bool) or depth > 8:
        return first is False or second is False
    for schema, rest in ((first, second), (second, first)):
        options = schema.get("anyOf") or schema.get("oneOf")
        if options and all(_are_disjoint(option, rest, whole, depth + 1) for option in options):
            return True
    values, other_values = literals(first, whole), literals(second, whole)
    if values is not None and other_values is not None:
        return not {canonical(value) for value in values} & {canonical(value) for value in other_values}
    shared, names = _types(first) & _types(second), {*first.get("required", ()), *second.get("required", ())}
    if shared != {"object"}:
        return not shared
    return any(_are_disjoint(_property(first, name), _property(second, name), whole, depth + 1) for name in names)


def _property(schema: Mapping[str, Any], name: str) -> Any:
    unnamed = True if "patternProperties" in schema else schema.get("additionalProperties", True)
    return schema.get("properties", {}).get(name, unnamed)


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
    for flags in _FLAGS.finditer(bare):
        if flags[1] not in ("", "s"):
            raise ConstraintError(
                f"{where} {_short(pattern)} sets the flag {flags[1]!r}: write it out, such as [Aa] for (?i:a)"
            )
    for sign, name in _UNSUPPORTED.items():
        if re.search(sign, bare):
            raise ConstraintError(f"{where} {_short(pattern)} uses {name}, which is not supported: write it without")
