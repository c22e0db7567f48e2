"""Parse calls of functions from the text of a completion, piece by piece as it comes."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from lmworks.generate.constraint import FunctionCalls

_FENCE = "```"
_CODE_BLOCK = re.compile(r"\s*```(?:json)?\s*(?=\{)")  # before a call that a model writes as a block of JSON
_CALL_STARTS = ('```json{"name":', '```{"name":')  # without white space


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The call with this number, from 0, is of this function."""

    number: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """JSON text to append to the arguments of a call."""

    number: int
    text: str


CompletionPart = TextPart | ToolCallStart | ArgumentsDelta


@dataclass(frozen=True, slots=True)
class ParsedToolCall:
    """A whole call; its arguments are not whole JSON when the completion ended inside them."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A whole completion; `cut` when it ended inside a call."""

    text: str
    calls: tuple[ParsedToolCall, ...]
    cut: bool


class ToolCallParser:
    """Parses a completion that the constraint `form` held; all of it is text where that is None.

    Where the text is held to a form too, an answer is calls from its first character on, or has none: what looks like
    one in the middle of JSON is a part of it.

    The calls of one completion are named after its `interaction`, so that they have the same ids whenever it is parsed.
    A code block of JSON that names a function of the form and its arguments is a call as well, which models write whose
    template has another form; it is held back until it is whole.
    White space between the text and a call belongs to neither. Text that may turn out to be the beginning of a call is
    held back until the next piece, or `end`, decides.
    """

    def __init__(self, form: FunctionCalls | None, interaction: str) -> None:
        self._form, self._interaction = form, interaction
        self._rest = ""  # not parsed yet
        self._state = self._text_alone
        if form is not None:
            self._state = self._text if form.answer is None else self._start
        self._number = -1  # of the call that was begun last
        self._lead = "" if form is None else form.opening + form.before  # of the call that begins next
        self._scan = _ObjectScan()

    @property
    def calls(self) -> int:
        """The number of calls that have begun."""
        return self._number + 1

    @property
    def cut(self) -> bool:
        """True if a completion that ends here ends inside a call."""
        return self._state in (self._name, self._arguments)

    def feed(self, text: str) -> list[CompletionPart]:
        """The parts that are certain after this piece."""
        self._rest += text
        return list(self._parts())

    def end(self) -> list[CompletionPart]:
        """The text that was held back. A call that has no name yet is none."""
        rest, self._rest = self._rest, ""
        return [TextPart(rest)] if rest and self._state in (self._text, self._start, self._code_block) else []

    def _parts(self) -> Iterator[CompletionPart]:
        """Each state takes what it can from `_rest` and sets the next; one that needs more text changes nothing."""
        while True:
            before = (self._state, self._rest)
            yield from self._state()
            if (self._state, self._rest) == before or not self._rest:
                return

    def _text_alone(self) -> Iterator[CompletionPart]:
        text, self._rest = self._rest, ""
        if text:
            yield TextPart(text)

    def _start(self) -> Iterator[CompletionPart]:
        """Calls alone, or none."""
        assert self._form is not None
        marker = self._form.marker
        if self._rest.startswith(marker):
            self._state = self._name
        elif not marker.startswith(self._rest):
            self._state = self._text_alone
        return
        yield

    def _text(self) -> Iterator[CompletionPart]:
        assert self._form is not None
        text, marker, _ = self._rest.partition(self._form.marker)
        if self._form.marker[0] != "{" and (block := _code_block_start(text)) < len(text):
            text = text[:block].rstrip()
            self._rest, self._state = self._rest[len(text) :], self._code_block
        elif marker:
            self._rest, self._state = self._rest[len(text) :], self._name
            text = text.rstrip()
        else:
            text = text[: len(text) - max(_held_back(text, marker) for marker in (self._form.marker, _FENCE))]
            self._rest = self._rest[len(text) :]
        if text:
            yield TextPart(text)

    def _code_block(self) -> Iterator[CompletionPart]:
        """A code block that looks like a call, which it is if it names a function and ends after its arguments."""
        start = begun.end() if (begun := _CODE_BLOCK.match(self._rest)) else len(self._rest)
        scan = _ObjectScan()
        end = start + scan.length(self._rest[start:])
        after = self._rest[end:].lstrip()
        may_close = not scan.complete or (len(after) < len(_FENCE) and _FENCE.startswith(after))
        if may_close and _code_block_start(self._rest) < len(self._rest):
            return
        call = self._called(self._rest[start:end]) if after.startswith(_FENCE) else None
        if call is None:
            text, fence, rest = self._rest.partition(_FENCE)
            self._rest, self._state = rest, self._text
            yield TextPart(text + fence)
            return
        self._number += 1
        self._rest, self._state = after[len(_FENCE) :], self._after_code_block
        yield ToolCallStart(self._number, f"call_{self._interaction}_{self._number}", call[0])
        yield ArgumentsDelta(self._number, call[1])

    def _called(self, block: str) -> tuple[str, str] | None:
        """The function that a JSON object calls, and the JSON of its arguments."""
        assert self._form is not None
        with suppress(ValueError, RecursionError):
            match json.loads(block):
                case {"name": str(name), "arguments": dict(arguments)} if name in dict(self._form.functions):
                    return name, json.dumps(arguments, ensure_ascii=False)
        return None

    def _after_code_block(self) -> Iterator[CompletionPart]:
        self._rest = self._rest.lstrip()
        if self._rest:
            self._state = self._text
        return
        yield

    def _name(self) -> Iterator[CompletionPart]:
        assert self._form is not None
        name, between, rest = self._rest[len(self._lead) :].partition(self._form.between)
        if between:
            self._rest, self._state = rest, self._arguments
            self._number += 1
            self._scan = _ObjectScan()
            yield ToolCallStart(self._number, f"call_{self._interaction}_{self._number}", name)

    def _arguments(self) -> Iterator[CompletionPart]:
        length = self._scan.length(self._rest)
        text, self._rest = self._rest[:length], self._rest[length:]
        if self._scan.complete:
            self._state = self._gap
        if text:
            yield ArgumentsDelta(self._number, text)

    def _gap(self) -> Iterator[CompletionPart]:
        """The text between two calls."""
        assert self._form is not None
        _, separator, rest = self._rest.partition(f"{self._form.separator or ''}{self._form.before}")
        if separator:
            self._rest, self._state, self._lead = rest, self._name, ""
        return
        yield


class _ObjectScan:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self.complete = False
        self._depth, self._quoted, self._escaped = 0, False, False

    def length(self, text: str) -> int:
        """The number of these characters that belong to the object."""
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = character == "\\", character != '"'
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    return index + 1
        return len(text)


def parse_completion(form: FunctionCalls | None, interaction: str, completion: str) -> ParsedCompletion:
    """The text and the calls of a whole completion."""
    parser = ToolCallParser(form, interaction)
    text, calls = "", list[ParsedToolCall]()
    for part in [*parser.feed(completion), *parser.end()]:
        match part:
            case TextPart(piece):
                text += piece
            case ToolCallStart(_, identifier, name):
                calls.append(ParsedToolCall(identifier, name, ""))
            case ArgumentsDelta(_, piece):
                calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + piece)
    return ParsedCompletion(text, tuple(calls), parser.cut)


def _code_block_start(text: str) -> int:
    """Where a code block begins that is a call, as far as it is written; else the length of the text."""
    for fence in re.finditer(_FENCE, text):
        written = "".join(text[fence.start() : fence.start() + 200].split())
        if any(start.startswith(written) or written.startswith(start) for start in _CALL_STARTS):
            return fence.start()
    return len(text)


def _held_back(text: str, marker: str) -> int:
    """Length of the end of a text that may belong to a call: white space, and after it a beginning of the marker."""
    longest = next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)
    before = text[: len(text) - longest]
    return longest + len(before) - len(before.rstrip())
