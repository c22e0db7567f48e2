"""Arrays without equal items (`uniqueItems`), which no grammar can hold: the text so far tells what may not come.

The text is read byte by byte beside the matcher, which sees to it that it is JSON. What an array's schema says is found
by its path; where several schemas may be meant (`anyOf`), items must differ if one of them says so.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import numpy as np

from lmworks.generate.constraint import Constraint, ConstraintError, FunctionCalls, JsonSchema
from lmworks.generate.schema_document import DIFFERENT_ITEMS, SchemaDocument, canonical, document_of, literals


@dataclass(frozen=True, slots=True)
class _Open:
    """An array or object that is not closed yet.

    schemas  those that may be meant for it.
    names    whether it is an object; `name` is that of the property whose value comes next, None where a name does.
    index    of the item that comes next, or is read.
    begun    where in the text what is read begins; -1 between two.
    more     after a comma: something must come.
    seen     the items so far, as `canonical` writes them and as they stand; None where items may be equal.
    values   the only items that there can be, in the same way; None where that is not known.
    """

    schemas: Sequence[Any]
    names: bool = False
    name: str | None = None
    index: int = 0
    begun: int = -1
    more: bool = False
    seen: Mapping[str, bytes] | None = None
    values: Mapping[str, bytes] | None = None


@dataclass(slots=True)
class UniqueReader:
    """Where a text has come to. `openings` are what JSON of a document comes after; b"" is the beginning."""

    openings: Mapping[bytes, SchemaDocument]
    text: bytearray = field(default_factory=bytearray)
    open: list[_Open] = field(default_factory=list)
    document: SchemaDocument = field(default_factory=SchemaDocument)
    quoted: bool = False
    escaped: bool = False

    def copy(self) -> "UniqueReader":
        return replace(self, text=self.text[:], open=self.open[:])

    def read(self, data: bytes) -> bool:
        """Takes what comes next; False where an item has come again, or only such ones are left."""
        return all(self._read(byte) for byte in data) and self._has_others()

    def without_repeats(self, words: np.ndarray, spelled: Sequence[bytes], quoting: np.ndarray) -> np.ndarray:
        """The mask, without the tokens that would end an item that was there; `quoting` has those with a \"."""
        watched = [frame for frame in self.open if frame.seen or frame.values]
        if not watched:
            return words
        inner, quoted = self.open[-1], self.quoted and self.open[-1].values is None
        bits = np.unpackbits((words & quoting if quoted else words).view(np.uint8), bitorder="little")
        tokens = np.flatnonzero(bits).tolist()
        if quoted:  # a string is written in one way, and what is around it ends by brackets
            partial, outer = bytes(self.text[inner.begun :]), any(frame is not inner for frame in watched)
            rests = tuple(t[len(partial) :] for t in (inner.seen or {}).values() if t.startswith(partial))
            tokens = [t for t in tokens if spelled[t].startswith(rests) or (outer and set(spelled[t]) & set(b"]}"))]
        words = words.copy()
        for token in tokens:
            if not self.copy().read(spelled[token]):
                words[token >> 5] &= ~np.uint32(1 << (token & 31))
        return words

    def _read(self, byte: int) -> bool:
        sign, opens = chr(byte), bool(self.open) or self._opens()
        if opens and len(self.open) == 1 and not self.text and sign not in _BEGINS_JSON:  # no answer, but a call
            self.open.clear()
            opens = False
        if not opens:
            self.text.append(byte)
            self._opens()
            return True
        if self.quoted:
            self.text.append(byte)
            self.quoted, self.escaped = self.escaped or sign != '"', not self.escaped and sign == "\\"
            return self.quoted or self._end()
        if sign in "]}, \t\r\n" and not (self.open[-1].begun < 0 or self._end()):
            return False
        if sign == '"' or sign not in "]}:, \t\r\n":
            self._change(begun=len(self.text) if self.open[-1].begun < 0 else self.open[-1].begun)
        self.text.append(byte)
        self.quoted = sign == '"'
        match sign:
            case "[" | "{":
                self.open.append(self._inside(names=sign == "{"))
            case "]" | "}":
                self.open.pop()
                return self._end()
            case ",":
                self._change(name=None, index=self.open[-1].index + 1, more=True)
                if self.open[-1].seen is not None:
                    self.open[-1] = self._with_values(self.open[-1])
        return True

    def _opens(self) -> bool:
        """Begins a document, where one begins here."""
        for opening, document in self.openings.items():
            if self.text.endswith(opening) and (opening or not self.text):
                self.document = document
                self.text.clear()
                self.open.append(_Open([{"items": document.schema}]))
                return True
        return False

    def _change(self, **fields: Any) -> None:
        self.open[-1] = replace(self.open[-1], **fields)

    def _end(self) -> bool:
        """Ends what is read: a name or a value; False for an item that was there."""
        frame = self.open[-1]
        text = bytes(self.text[frame.begun :])
        if frame.names and frame.name is None:
            self._change(name=json.loads(text), begun=-1, more=False)
        elif frame.seen is None:
            self._change(begun=-1, more=False)
        else:
            key = _key(text)
            self._change(begun=-1, more=False, seen={**frame.seen, key: text})
            return key not in frame.seen
        if len(self.open) == 1:  # the whole; another may follow
            self.open.clear()
            self.text = bytearray(b" ")
        return True

    def _has_others(self) -> bool:
        """Whether what is read, or comes next, can still become an item that was not there."""
        frame = self.open[-1] if self.open else None
        if frame is None or frame.seen is None or not (frame.more or frame.begun >= 0):
            return True
        partial = bytes(self.text[frame.begun :]) if frame.begun >= 0 else b""
        texts = frame.values
        if texts is None and partial[:1] in (b"t", b"f", b"n"):
            texts = _WORDS
        return texts is None or any(text.startswith(partial) for key, text in texts.items() if key not in frame.seen)

    def _inside(self, names: bool) -> _Open:
        schemas = list(_meant(_of_child(self.open[-1]), self.document))
        if names or not any(map(_wants_different, schemas)):
            return _Open(schemas, names)
        return self._with_values(_Open(schemas, seen={}))

    def _with_values(self, frame: _Open) -> _Open:
        """The array, with the only values that its next item may have."""
        parts = [literals(schema, self.document) for schema in _of_child(frame) if schema is not None]
        values = [value for part in parts for value in part or ()]
        if not parts or None in parts or not all(isinstance(value, str | int | None) for value in values):
            return replace(frame, values=None)
        return replace(frame, values=_texts(values))


def _texts(values: Sequence[Any]) -> dict[str, bytes]:
    return {canonical(value): json.dumps(value, ensure_ascii=False).encode() for value in values}


_BEGINS_JSON = ' \n\t{["-0123456789tfn'
_WORDS = _texts((True, False, None))


def _key(text: bytes) -> str:
    try:
        return canonical(json.loads(text))
    except ValueError:  # an integer of thousands of digits
        return text.decode()


def _of_child(frame: _Open) -> Iterator[Any]:
    """The schemas of what comes next in an array or object."""
    for schema in frame.schemas:
        if not frame.names:
            first = schema.get("prefixItems", ())
            yield first[frame.index] if frame.index < len(first) else schema.get("items")
        elif frame.name in schema.get("properties", {}):
            yield schema["properties"][frame.name]
        else:
            yield schema.get("additionalProperties")
        if frame.names:
            yield from schema.get("patternProperties", {}).values()


def _meant(schemas: Iterator[Any], document: SchemaDocument) -> Iterator[dict[str, Any]]:
    """The schemas, and those that they are made of."""
    waiting, known = list(schemas), set[int]()
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in known:
            continue
        known.add(id(schema))
        yield schema
        if "$ref" in schema:
            waiting.append(document.parts[unquote(schema["$ref"])])
        for keyword in ("allOf", "anyOf", "oneOf"):
            waiting += schema.get(keyword, ())


def unique_reader(constraint: Constraint, grammar: str) -> UniqueReader | None:
    """A reader before the first token; None where no items must differ.

    Schemas are those of the grammar: to prepare them again would take the time that only the trial's process has.
    """
    embedded = (line.partition(": %json ") for line in grammar.split("\n"))
    schemas = {rule: json.loads(schema) for rule, _, schema in embedded if schema}
    match constraint:
        case JsonSchema():
            openings = {"": schemas["start"]}
        case FunctionCalls(before, between, _, _, functions):
            openings = {before + name + between: schemas[f"arguments_{n}"] for n, (name, _) in enumerate(functions)}
            if "answer" in schemas:  # there is none where calls are required
                openings[""] = schemas["answer"]
        case _:
            return None
    documents = {opening.encode(): document_of(schema) for opening, schema in openings.items()}
    if not any(map(_wants_different, (part for document in documents.values() for part in document.parts.values()))):
        return None
    if isinstance(constraint, FunctionCalls) and "" in openings and constraint.marker[0] in _BEGINS_JSON:
        raise ConstraintError("uniqueItems is not supported where a call begins like the answer: leave out one of them")
    return UniqueReader(documents)


def _wants_different(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("$comment") == DIFFERENT_ITEMS
