"""Arrays without equal items (`uniqueItems`), which no grammar can hold: the text so far tells what may not come.

The text is read next to the matcher, which sees to it that it is JSON. What an array's schema says is found by its
path; where several schemas may be meant (`anyOf`), items must differ if one of them says so.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import numpy as np

from lmworks.generate.constraint import Constraint, ConstraintError, FunctionCalls

DIFFERENT_ITEMS = "uniqueItems"  # what the $comment says, which the library passes over, where it knows no keyword
_MOST_LITERALS = 256


def referred(pointer: str, whole: Any) -> Any:
    """The part of a schema that a reference from its root (`#/…`) names."""
    node = whole
    for name in unquote(pointer).split("/")[1:]:
        node = node[int(name)] if isinstance(node, list) else node[name.replace("~1", "/").replace("~0", "~")]
    return node


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
            return None if None in values else [value for group in values for value in group or ()]
    return None


def canonical(value: Any) -> str:
    """A text that values have in common exactly where JSON Schema has them equal: 1 is 1.0, and true is neither."""
    match value:
        case list():
            return f"[{','.join(map(canonical, value))}]"
        case dict():
            return f"{{{','.join(sorted(f'{json.dumps(name)}:{canonical(item)}' for name, item in value.items()))}}}"
        case float() if value.is_integer():
            return str(int(value))
    return json.dumps(value, ensure_ascii=False)


# White space, and a text, a bracket or sign, or another value, which what comes after it ends.
_PIECE = re.compile(rb'\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}:,]|[^][{}:,"\s]++(?=[][{}:,\s]))', re.DOTALL)
_BEGINS_JSON = '{["-0123456789tfn'


@dataclass(frozen=True)
class _Open:
    """An array or object that is not closed yet.

    whole    the schema that references begin at.
    schemas  those that may be meant for it.
    items    as `canonical` writes them; of an object, names and values by turns.
    """

    whole: Any
    schemas: Sequence[Any]
    is_object: bool = False
    items: tuple[str, ...] = ()

    @cached_property
    def differs(self) -> bool:
        """Whether no two items may be equal."""
        return not self.is_object and any(schema.get("$comment") == DIFFERENT_ITEMS for schema in self.schemas)

    @cached_property
    def next_items(self) -> list[str] | None:
        """Items that can come next in an array where no two are equal; None where that is not known."""
        groups = (
            [literals(schema, self.whole) for schema in self._inner() if schema is not None] if self.differs else []
        )
        values = [value for group in groups for value in group or ()]
        if not groups or None in groups or not all(isinstance(value, str | int | None) for value in values):
            return None
        return [text for text in map(canonical, values) if text not in self.items]

    def has_next_item(self, begun: str = "") -> bool:
        """Whether text that begins so can still become an item that is not in the array yet."""
        items = self.next_items
        if self.differs and items is None and begun[:1] in ("t", "f", "n"):
            items = [text for text in ("true", "false", "null") if text not in self.items]
        return items is None or any(text.startswith(begun) for text in items)

    def _inner(self) -> Iterator[Any]:
        """The schemas of what comes next."""
        for schema in self.schemas:
            if self.is_object:
                named, additional = schema.get("properties", {}), schema.get("additionalProperties")
                yield named.get(json.loads(self.items[-1]), additional)
                yield from schema.get("patternProperties", {}).values()
            else:
                first, index = schema.get("prefixItems", ()), len(self.items)
                yield first[index] if index < len(first) else schema.get("items")

    def opened(self, is_object: bool) -> "_Open":
        """An array or object inside, with the schemas that may be meant for it, and those that they are made of."""
        waiting, meant = list(self._inner()), dict[int, Any]()
        while waiting:
            schema = waiting.pop()
            if isinstance(schema, dict) and id(schema) not in meant:
                meant[id(schema)] = schema
                waiting += [referred(schema["$ref"], self.whole)] if "$ref" in schema else []
                waiting += [
                    subschema for keyword in ("allOf", "anyOf", "oneOf") for subschema in schema.get(keyword, ())
                ]
        return _Open(self.whole, list(meant.values()), is_object)

    def closed(self) -> str:
        if not self.is_object:
            return f"[{','.join(self.items)}]"
        named = dict(zip(self.items[::2], self.items[1::2], strict=True))  # of two of one name, the last
        return f"{{{','.join(f'{name}:{named[name]}' for name in sorted(named))}}}"


@dataclass(slots=True)
class UniqueReader:
    """The state of reading a text, for items that must differ.

    schemas  of the values in the text.
    begins   finds where one begins: its groups are the schemas.
    between  what is read again before the text between two values.
    open     the arrays and objects of a value, the outermost a list of it alone; empty between values.
    rest     the text that is no whole piece yet.
    """

    schemas: Sequence[Any]
    begins: re.Pattern[bytes]
    between: bytes
    open: tuple[_Open, ...] = ()
    rest: bytes = b""

    def copy(self) -> "UniqueReader":
        return replace(self)

    def read(self, data: bytes) -> bool:
        """Takes what comes next; False where an item has come again, or only such ones are left."""
        self.rest += data
        while self.open or self._begins():
            piece = _PIECE.match(self.rest)
            if piece is None:
                begun = self.rest.lstrip().decode("utf-8", "ignore")
                return not begun or self.open[-1].has_next_item(begun)
            self.rest = self.rest[piece.end() :]
            if not self._take(piece[1]):
                return False
        return True

    def _begins(self) -> bool:
        if beginning := self.begins.search(self.rest):
            schema, self.rest = self.schemas[(beginning.lastindex or 0) - 1], self.rest[beginning.end() :]
            self.open = (_Open(schema, [{"items": schema}]),)
        return beginning is not None

    def _take(self, piece: bytes) -> bool:
        """Takes a whole piece; False for an item that was there, and where none can come that was not."""
        frame = self.open[-1]
        match piece:
            case b"[" | b"{":
                self.open += (frame.opened(piece == b"{"),)
                return True
            case b"," | b":":
                return frame.has_next_item()
            case b"]" | b"}":
                self.open, item = self.open[:-1], frame.closed()
            case _:
                # Of thousands of digits, Python makes no number.
                item = canonical(json.loads(piece, parse_int=lambda n: int(n) if len(n) < 999 else n))
        *outer, frame = self.open
        self.open = (*outer, replace(frame, items=(*frame.items, item)))
        if not outer:
            self.open, self.rest = (), self.between + self.rest
        return not frame.differs or item not in frame.items

    def without_repeats(self, words: np.ndarray, spelled: Sequence[bytes], quoting: np.ndarray) -> np.ndarray:
        """The mask, without the tokens that would end an item that was there; `quoting` has those with a \"."""
        watched = [frame for frame in self.open if frame.differs and frame.items]
        if not watched:
            return words
        inner, begun = self.open[-1], self.rest.lstrip()
        quoted = begun[:1] == b'"' and inner.next_items is None
        bits = np.unpackbits((words & quoting if quoted else words).view(np.uint8), bitorder="little")
        tokens = np.flatnonzero(bits).tolist()
        if quoted:  # a text is written in one way, and what is around it ends by brackets
            seen = [item.encode() for item in inner.items] if inner.differs else []
            rests, outer = tuple(t[len(begun) :] for t in seen if t.startswith(begun)), watched != [inner]
            tokens = [t for t in tokens if spelled[t].startswith(rests) or (outer and set(spelled[t]) & set(b"]}"))]
        words = words.copy()
        for token in tokens:
            if not self.copy().read(spelled[token]):
                words[token >> 5] &= ~np.uint32(1 << (token & 31))
        return words


def unique_reader(constraint: Constraint, grammar: str) -> UniqueReader | None:
    """A reader before the first token; None where no items must differ.

    Schemas are those of the grammar: to prepare them again would take the time that only the trial's process has.
    """
    if json.dumps({"$comment": DIFFERENT_ITEMS})[1:-1] not in grammar:
        return None
    embedded = (line.partition(": %json ") for line in grammar.split("\n"))
    schemas = {rule: json.loads(schema) for rule, _, schema in embedded if schema}
    if not isinstance(constraint, FunctionCalls):
        return UniqueReader(list(schemas.values()), re.compile(rb"\A()(?!\0)"), b"\0")
    marker, names = constraint.marker, [name for name, _ in constraint.functions]
    openings = "|".join(f"({re.escape(constraint.before + name + constraint.between)})" for name in names)
    begins = f"(?=(?:{re.escape(marker)}))(?s:.*?)(?:{openings})"  # words before the marker may look like a call
    called = [schemas[f"arguments_{number}"] for number in range(len(names))]
    if "answer" in schemas:  # there is none where calls are required
        if marker.lstrip()[:1] in _BEGINS_JSON:
            raise ConstraintError("uniqueItems is not supported where a call begins like the answer: leave one out")
        begins += rf"|\A()(?=\s*[{re.escape(_BEGINS_JSON)}])"
        called.append(schemas["answer"])
    return UniqueReader(called, re.compile(begins.encode()), marker.encode())
