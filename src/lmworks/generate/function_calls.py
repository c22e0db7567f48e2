"""The language of answers that may call functions, in Lark's EBNF as the matcher (llguidance) reads it."""

import json
from collections.abc import Callable, Iterator

from lmworks.generate.constraint import ConstraintError, FunctionCalls

_SIGNS = frozenset(r"\.+*?()|[]{}^$/")  # what means something in a regular expression between slashes


def lark(wanted: FunctionCalls, schema: Callable[[str], str]) -> Iterator[str]:
    """The rules, from `start` on; `schema` gives the grammar of a JSON schema.

    A lazy rule ends at the first place where it can: at the first marker, before which the words do not hold it.
    """
    more = ""
    if wanted.separator is not None and wanted.most > 1:
        more = f" ({_literal(wanted.separator + wanted.marker)} call){{0,{wanted.most - 1}}}"
    calls = f"{_literal(wanted.marker)} call{more}"
    if wanted.required:
        yield f"start: {calls}"
    elif wanted.answer is not None:
        yield f"start: answer | {calls}"
        yield f"answer: {schema(wanted.answer.schema)}"
    else:
        marker = "".join(f"\\{sign}" if sign in _SIGNS else sign for sign in wanted.marker)
        yield f"start: WORDS | marked call{more}"
        yield f"WORDS: /(?s:.*)/ & ~/(?s:.*){marker}(?s:.*)/"
        yield f"marked[lazy]: /(?s:.*){marker}/"
    opening, after = wanted.before[len(wanted.marker) :], f" {_literal(wanted.after)}" if wanted.after else ""
    names = [_literal(opening + name + wanted.between) for name, _ in wanted.functions]
    yield "call: " + " | ".join(f"{name} arguments_{number}{after}" for number, name in enumerate(names))
    for number, (_, parameters) in enumerate(wanted.functions):
        yield f"arguments_{number}: {schema(_of_objects(parameters))}"


def _of_objects(parameters: str) -> str:
    """The schema, of objects alone: arguments go by their names, whatever else a schema that says no type allows."""
    try:
        schema = json.loads(parameters)
    except (ValueError, RecursionError):
        return parameters  # which says what is wrong with it when it is compiled
    if not isinstance(schema, dict):
        return '{"type": "object"}' if schema is True else parameters
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise ConstraintError(f"the arguments of a function are an object, got parameters of the type {kinds!r}")
    return json.dumps({**schema, "type": "object"}, ensure_ascii=False)


def _literal(text: str) -> str:
    """Lark reads JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
