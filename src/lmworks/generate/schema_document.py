"""A JSON schema as a document whose parts refer to each other, and its values."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

_MOST_LITERALS = 256
DIFFERENT_ITEMS = "uniqueItems"  # what the $comment says, which the library passes over, where it knows no keyword


@dataclass(slots=True)
class SchemaDocument:
    """A JSON schema in keywords that the matcher's library keeps, and what it does not.

    parts       schemas by their places (`#/…`), the whole at `#`; references are such places.
    resources   the places by their URIs.
    references  parts that refer to another, each with its base URI and its place.
    unique      the parts, by their places, whose arrays have no two equal items.
    narrow      schemas that accept less than what they stand for.
    controls    places of control characters for which JSON has no letter, such as U+0001.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=lambda: {"": "#"})
    references: list[tuple[dict[str, Any], str, str]] = field(default_factory=list)
    unique: dict[str, dict[str, Any]] = field(default_factory=dict)
    narrow: list[dict[str, Any]] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)

    @property
    def schema(self) -> dict[str, Any]:
        whole = self.parts["#"]
        return {} if whole is True else whole

    def target(self, schema: Any) -> Any:
        """The schema, or what it refers to, if it says nothing else."""
        for _ in self.parts:
            if not isinstance(schema, dict) or list(schema) != ["$ref"]:
                break
            schema = self.parts[unquote(schema["$ref"])]
        return schema


def document_of(schema: dict[str, Any]) -> SchemaDocument:
    """The document of a schema that was prepared before."""
    document, waiting = SchemaDocument(), [("#", schema)]
    while waiting:
        place, part = waiting.pop()
        document.parts[place] = part
        if isinstance(part, dict | list):
            named = part.items() if isinstance(part, dict) else enumerate(part)
            waiting += [(f"{place}/{escaped(str(name))}", one) for name, one in named]
    return document


def escaped(name: str) -> str:
    """A name in a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def literals(schema: Any, document: SchemaDocument) -> list[Any] | None:
    """The values of which the schema says that there are no others."""
    match document.target(schema):
        case {"enum": list(values)}:
            return values
        case {"const": value}:
            return [value]
        case {"type": "boolean"}:
            return [False, True]
        case {"type": "null"}:
            return [None]
        case {"type": "integer", "minimum": int(low), "maximum": int(high)} if high - low < _MOST_LITERALS:
            return list(range(low, high + 1))
        case {"anyOf": list(options)}:
            values = [literals(option, document) for option in options]
            return None if None in values else [value for part in values for value in part or ()]
    return None


def canonical(value: Any) -> str:
    """A text that values have in common exactly where JSON Schema has them equal: 1 is 1.0, and true is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{json.dumps(name)}:{canonical(one)}' for name, one in value.items()))}}}"
    return json.dumps(value)
