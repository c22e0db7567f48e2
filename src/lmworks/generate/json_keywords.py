"""Keywords of JSON Schema that the matcher's library lacks, in those that it has.

`not` and what is made of it (`if`, `oneOf` whose parts overlap) become the schemas of what is left, keyword by keyword:
not (a and b) is not a or not b, and what is no string of three letters is another type, or shorter, or longer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lmworks.generate.constraint import ConstraintError
from lmworks.generate.json_formats import BASE64, FORMATS
from lmworks.generate.json_text_pattern import json_text_pattern
from lmworks.generate.schema_document import SchemaDocument, canonical, literals

_TYPES = ("null", "boolean", "number", "string", "array", "object")


def lower(schema: dict[str, Any], place: str, document: SchemaDocument) -> None:
    """Writes a schema anew, in place, when its parts are; ConstraintError for what has no other keywords."""
    _also(schema, FORMATS.get(schema.get("format", ""), None), "format")
    if "contentMediaType" in schema and "contentEncoding" in schema:
        raise ConstraintError(f"{place}: contentMediaType beside contentEncoding is not supported: leave one out")
    content = schema.pop("contentSchema", True)  # an annotation where no contentMediaType says what it is of
    if "contentMediaType" in schema:
        pattern = json_text_pattern(content, f"{place}/contentSchema", document)
        _also(schema, {"pattern": f"^{pattern}$"}, "contentMediaType")
    _also(schema, BASE64, "contentEncoding")
    _lower_names(schema, place, document)
    further = [*_conditions(schema, place, document), *_dependencies(schema)]
    if "oneOf" in schema:
        further.append({"anyOf": list(_one_alone(schema.pop("oneOf"), place, document))})
    if further:
        schema["allOf"] = [*schema.get("allOf", ()), *further]
    _check_least_properties(schema, place)


def _conditions(schema: dict[str, Any], place: str, document: SchemaDocument) -> Iterator[Any]:
    if "not" in schema:
        yield _complement(schema.pop("not"), f"{place}/not", document)
    asked, then, otherwise = (schema.pop(keyword, None) for keyword in ("if", "then", "else"))
    if asked is not None and then not in (None, True):
        unmet = _complement(asked, f"{place}/if", document)
        yield {"anyOf": [{"allOf": [asked, then]}, {"allOf": [unmet, True if otherwise is None else otherwise]}]}
    elif asked is not None and otherwise is not None:
        yield {"anyOf": [asked, otherwise]}


def _dependencies(schema: dict[str, Any]) -> Iterator[Any]:
    for name, wanted in schema.pop("dependentRequired", {}).items():
        yield {"anyOf": [{"properties": {name: False}}, {"required": wanted}]}
    for name, wanted in schema.pop("dependentSchemas", {}).items():
        yield {"anyOf": [{"properties": {name: False}}, wanted]}


def _one_alone(options: list[Any], place: str, document: SchemaDocument) -> Iterator[Any]:
    for number, one in enumerate(options):
        others = [
            _complement(other, f"{place}/oneOf/{n}", document)
            for n, other in enumerate(options)
            if n != number and not _are_disjoint(one, other, document)
        ]
        yield {"allOf": [one, *others]} if others else one


def _complement(schema: Any, place: str, document: SchemaDocument, depth: int = 0) -> Any:
    """The schema of all values that the schema does not accept; ConstraintError where there are no keywords for it."""
    if isinstance(schema, bool):
        return not schema
    if depth > 16 or any(schema is one for one in (*document.unique.values(), *document.narrow)):
        raise ConstraintError(f"{place}: what it is not is not supported here: say what is allowed instead")
    inside = {"place": place, "document": document, "depth": depth + 1}
    options: list[Any] = []
    for keyword, value in schema.items():
        match keyword:
            case "$defs" | "definitions" | "$schema":
                pass
            case "$ref":
                options.append(_complement(document.target({"$ref": value}), **inside))
            case "allOf":
                options += [_complement(one, **inside) for one in value]
            case "anyOf":
                options.append({"allOf": [_complement(one, **inside) for one in value]})
            case "type":
                kinds = _types(schema)  # of numbers, those that are no integers have no keyword
                options.append({"type": [kind for kind in _TYPES if kind not in kinds]})
                if "number" in kinds and "number" not in value:
                    document.narrow.append(options[-1])
            case "const":
                options += _other_values([value], place)
            case "enum":
                options += _other_values(value, place)
            case "maximum" | "exclusiveMaximum" | "minimum" | "exclusiveMinimum" if abs(value) <= 1 << 53:
                options.append({"type": "number", _OPPOSITE[keyword]: value})
            case "maxLength" | "maxItems" | "maxProperties":
                options.append({"type": _COUNTED[keyword[3:]], f"min{keyword[3:]}": value + 1})
            case "minLength" | "minItems" | "minProperties":
                options.append({"type": _COUNTED[keyword[3:]], f"max{keyword[3:]}": value - 1} if value else False)
            case "required":
                options += [{"type": "object", "properties": {name: False}} for name in value]
            case "properties":
                others = {name: _complement(one, **inside) for name, one in value.items()}
                options += [{"type": "object", "properties": {n: o}, "required": [n]} for n, o in others.items()]
            case "prefixItems":
                items = [[*[True] * number, _complement(one, **inside)] for number, one in enumerate(value)]
                options += [{"type": "array", "prefixItems": first, "minItems": len(first)} for first in items]
            case "items" | "additionalProperties" if value is True or value == {}:
                pass
            case _:
                raise ConstraintError(f"{place}: what is not {keyword!r} is not supported: say what is allowed instead")
    for option in options:
        if isinstance(option, dict):
            _check_least_properties(option, place)
    options = [option for option in options if option is not False]
    return {"anyOf": options} if options else False


_OPPOSITE = {"maximum": "exclusiveMinimum", "exclusiveMaximum": "minimum",
             "minimum": "exclusiveMaximum", "exclusiveMinimum": "maximum"}  # fmt: skip
_COUNTED = {"Length": "string", "Items": "array", "Properties": "object"}


def _other_values(values: list[Any], place: str) -> Iterator[Any]:
    """Schemas of all values that are none of these."""
    if any(isinstance(value, list | dict) for value in values):
        raise ConstraintError(f"{place}: what is not an array or object is not supported: say what is allowed instead")
    yield {"type": ["array", "object"]}
    yield from () if None in values else [{"type": "null"}]
    flags = [flag for flag in (True, False) if not any(value is flag for value in values)]
    yield from [{"enum": flags}] if flags else ()
    yield {"type": "string", "pattern": _other_strings({value for value in values if isinstance(value, str)})}
    numbers = sorted(v for v in values if isinstance(v, int | float) and not isinstance(v, bool))
    bounds = [{}, *({"exclusiveMinimum": number} for number in numbers)]
    for below, above in zip(bounds, [*({"exclusiveMaximum": number} for number in numbers), {}], strict=True):
        yield {"type": "number", **below, **above}


def _other_strings(strings: set[str]) -> str:
    """An expression of all strings but these: each leaves the tree of their beginnings somewhere, or ends inside."""
    parts = [] if strings else ["(?s:.)*"]
    for beginning in {string[:length] for string in strings for length in range(len(string) + 1)}:
        size = len(beginning)
        signs = {string[size] for string in strings if len(string) > size and string.startswith(beginning)}
        away = f"[^{''.join(map(_sign, sorted(signs)))}]" if signs else "(?s:.)"
        end = f"({away}(?s:.)*)?" if beginning not in strings else f"{away}(?s:.)*"
        parts.append(f"{''.join(map(_sign, beginning))}{end}")
    return f"^({'|'.join(sorted(parts))})$"


def _sign(sign: str) -> str:
    return sign if sign.isalnum() else f"\\x{{{ord(sign):x}}}"


def _also(schema: dict[str, Any], more: Mapping[str, Any] | None, keyword: str) -> None:
    """Puts what the keyword stands for in its place."""
    if keyword in schema and more is not None:
        del schema[keyword]
        if more.keys() & schema.keys():
            schema["allOf"] = [*schema.get("allOf", ()), more]
        else:
            schema.update(more)


def _lower_names(schema: dict[str, Any], place: str, document: SchemaDocument) -> None:
    """Properties by name or by pattern, and no others, instead of `propertyNames`."""
    names = document.target(schema.pop("propertyNames", True))
    asked: dict[str, Any] = (
        {} if names is True else names if names is not False and "string" in _types(names) else {"enum": []}
    )
    rest = {keyword: value for keyword, value in asked.items() if keyword != "type"}
    if not rest:
        return
    others, listed = schema.get("additionalProperties", True), schema.get("properties", {})
    if "patternProperties" not in schema and list(rest) in (["enum"], ["const"]):
        allowed = [name for name in rest.get("enum", [rest.get("const")]) if isinstance(name, str)]
        schema["properties"] = {name: one if name in allowed else False for name, one in listed.items()}
        schema["properties"] |= {name: others for name in allowed if name not in listed}
    elif "patternProperties" not in schema and not listed and rest.keys() <= {"minLength", "maxLength"}:
        schema["patternProperties"] = {f"^(?s:.){{{rest.get('minLength', 0)},{rest.get('maxLength', '')}}}$": others}
    elif "patternProperties" not in schema and not listed and list(rest) == ["pattern"]:
        schema["patternProperties"] = {rest["pattern"]: others}
    else:
        raise ConstraintError(
            f"{place}/propertyNames is not supported but for enum, pattern or lengths alone, and no patternProperties "
            "beside it: write the names under properties or patternProperties"
        )
    schema["additionalProperties"] = False


def _check_least_properties(schema: Mapping[str, Any], place: str) -> None:
    """Properties that are not listed may come twice under one name, so that counting them does not count names."""
    least = schema.get("minProperties", 0)
    closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    if isinstance(least, int) and least > max(1, len(schema.get("required", ()))) and not closed:
        raise ConstraintError(
            f"{place}: minProperties {least} is not supported where properties are not listed: name them under "
            "properties and required"
        )


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type", _TYPES)
    return {"number" if kind == "integer" else kind for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _are_disjoint(one: Any, other: Any, document: SchemaDocument, depth: int = 0) -> bool:
    """Whether it is plain that no value is of both: by their types, their values, or those of a required property."""
    one, other = document.target(one), document.target(other)
    if one is False or other is False:
        return True
    if not isinstance(one, dict) or not isinstance(other, dict) or depth > 8:
        return False
    for part, whole in ((one, other), (other, one)):
        if "anyOf" in part and all(_are_disjoint(option, whole, document, depth + 1) for option in part["anyOf"]):
            return True
    values, others = literals(one, document), literals(other, document)
    if values is not None and others is not None:
        return not {canonical(value) for value in values} & {canonical(value) for value in others}
    shared = _types(one) & _types(other)
    if shared != {"object"}:
        return not shared
    named, others = one.get("properties", {}), other.get("properties", {})
    return any(
        _are_disjoint(named.get(name, _unnamed(one)), others.get(name, _unnamed(other)), document, depth + 1)
        for name in {*one.get("required", ()), *other.get("required", ())}
    )


def _unnamed(schema: Mapping[str, Any]) -> Any:
    return True if "patternProperties" in schema else schema.get("additionalProperties", True)
