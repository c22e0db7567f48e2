"""JSON inside a string (`contentMediaType: application/json`), as a regular expression of JSON that is nested a little.

No expression has all of JSON, so this one has less than the schema allows: no white space, all properties that are
listed and no others, and no more than so many arrays and objects inside each other.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from lmworks.generate.constraint import ConstraintError
from lmworks.generate.schema_document import SchemaDocument

_DEEPEST = 3  # arrays and objects inside each other
_SCALARS = {
    "null": "null",
    "boolean": "(true|false)",
    "integer": r"-?(0|[1-9]\d{0,14})",
    "number": r"-?(0|[1-9]\d{0,14})(\.\d{1,9})?",
    "string": r'"([^"\\\x00-\x1f\x7f]|\\["\\bfnrt])*"',
}
_KNOWN = frozenset(("additionalProperties", "anyOf", "const", "enum", "items", "properties", "required", "type"))


def json_text_pattern(schema: Any, place: str, document: SchemaDocument, depth: int = _DEEPEST) -> str:
    """An expression of JSON texts that the schema accepts; ConstraintError for keywords that it cannot say."""
    schema = document.target(schema)
    keywords: dict[str, Any] = {} if schema is True else schema
    unknown = schema is False or keywords.keys() - _KNOWN - {"$schema", "$defs", "definitions"}
    mixed = not unknown and len(keywords.keys() & {"anyOf", "const", "enum"}) + ("properties" in keywords) > 1
    unnamed = not unknown and set(keywords.get("required", ())) - set(keywords.get("properties", ()))
    if unknown or mixed or unnamed or depth < 0:
        raise ConstraintError(f"{place} is not supported: use simple schemas of {', '.join(sorted(_KNOWN))}")
    options = list(_options(keywords, place, document, depth))
    if not options:
        raise ConstraintError(f"{place} is not supported: it is nested more than {_DEEPEST} times")
    return f"({'|'.join(options)})"


def _options(schema: dict[str, Any], place: str, document: SchemaDocument, depth: int) -> Iterator[str]:
    if schema.keys() & {"const", "enum"}:
        for value in schema.get("enum", [schema.get("const")]):
            yield re.escape(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        return
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            yield json_text_pattern(option, place, document, depth)
        return
    kinds = schema.get("type", ["null", "boolean", "number", "string", *(["array", "object"] if depth > 1 else [])])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array":
            item = json_text_pattern(schema.get("items", True), place, document, depth - 1)
            yield rf"\[({item}(,{item})*)?\]"
        elif kind == "object" and "properties" in schema:
            named = schema["properties"].items()
            inside = (_name(n) + json_text_pattern(one, place, document, depth - 1) for n, one in named)
            yield rf"\{{{','.join(inside)}\}}"
        elif kind == "object":
            others = json_text_pattern(schema.get("additionalProperties", True), place, document, depth - 1)
            yield rf"\{{({_SCALARS['string']}:{others}(,{_SCALARS['string']}:{others})*)?\}}"
        else:
            yield _SCALARS[kind]


def _name(name: str) -> str:
    return re.escape(json.dumps(name, ensure_ascii=False)) + ":"
