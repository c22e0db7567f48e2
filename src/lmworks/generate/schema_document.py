"""The parts of a JSON schema that refer to each other, and its values."""

import json
from typing import Any
from urllib.parse import unquote

DIFFERENT_ITEMS = "uniqueItems"  # what the $comment says, which the library passes over, where it knows no keyword
_MOST_LITERALS = 256


def referred(pointer: str, whole: Any) -> Any:
    """The part of a schema that a reference from its root (`#/…`) names."""
    part = whole
    for name in unquote(pointer).split("/")[1:]:
        part = part[int(name)] if isinstance(part, list) else part[name.replace("~1", "/").replace("~0", "~")]
    return part


def target(schema: Any, whole: Any) -> Any:
    """The schema, or what it refers to, if it says nothing else."""
    is_reference = isinstance(schema, dict) and list(schema) == ["$ref"]
    return target(referred(schema["$ref"], whole), whole) if is_reference else schema


def literals(schema: Any, whole: Any) -> list[Any] | None:
    """The values of which the schema says that there are no others."""
    match target(schema, whole):
        case {"enum": list(values)}:
            return values
        case {"type": "boolean" | "null" as kind}:
            return [False, True] if kind == "boolean" else [None]
        case {"type": "integer", "minimum": int(low), "maximum": int(high)} if high - low < _MOST_LITERALS:
            return list(range(low, high + 1))
        case {"anyOf": list(options)} | {"oneOf": list(options)}:
            values = [literals(option, whole) for option in options]
            return None if None in values else [value for part in values for value in part or ()]
    return None


def canonical(value: Any) -> str:
    """A text that values have in common exactly where JSON Schema has them equal: 1 is 1.0, and true is neither."""
    match value:
        case list():
            return f"[{','.join(map(canonical, value))}]"
        case dict():
            return f"{{{','.join(sorted(f'{json.dumps(name)}:{canonical(one)}' for name, one in value.items()))}}}"
        case float() if value.is_integer():
            return str(int(value))
    return json.dumps(value, ensure_ascii=False)
