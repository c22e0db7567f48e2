"""Calls of functions in the text of a completion, told apart from the rest piece by piece as it comes."""

from collections.abc import Iterator
from dataclasses import dataclass

from lmworks.generate.constraint import FunctionCalls


@dataclass(frozen=True, slots=True)
class Words:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """The call with this number, from 0, is of this function."""

    number: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """JSON text that goes on the arguments of a call."""

    number: int
    text: str


Part = Words | CallBegins | ArgumentsPiece


@dataclass(frozen=True, slots=True)
class Call:
    """A whole call; its arguments are not whole JSON when the completion ended inside them."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """A whole completion; `cut` when it ended inside a call."""

    words: str
    calls: tuple[Call, ...]
    cut: bool


class CallReader:
    """Reads a completion that was held to `wanted`; all of it is words where that is None.

    Where the words are held to a form too, an answer is calls from its first character on, or has none: what looks like
    one in the middle of JSON is a part of it.

    The calls of one completion are named after its `interaction`, so that they have the same ids whenever it is read.
    White space between the words and a call belongs to neither. Words that may turn out to be the beginning of a call
    are held back until the next piece, or `end`, tells.
    """

    def __init__(self, wanted: FunctionCalls | None, interaction: str) -> None:
        self._wanted, self._interaction = wanted, interaction
        self._rest = ""  # what was not told yet
        self._read = self._everything
        if wanted is not None:
            self._read = self._words if wanted.answer is None else self._start
        self._number = -1  # of the call that was begun last
        self._scan = _ObjectScan()

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return self._number + 1

    @property
    def cut(self) -> bool:
        """Whether a completion that ends here would end inside a call."""
        return self._read in (self._name, self._arguments)

    def feed(self, text: str) -> list[Part]:
        """What is certain after this piece."""
        self._rest += text
        return list(self._parts())

    def end(self) -> list[Part]:
        """What was held back: words. A call that has no name yet is none."""
        rest, self._rest = self._rest, ""
        return [Words(rest)] if rest and self._read in (self._words, self._start) else []

    def _parts(self) -> Iterator[Part]:
        """Each state takes what it can from `_rest` and names the next; one that needs more text changes nothing."""
        while True:
            before = (self._read, self._rest)
            yield from self._read()
            if (self._read, self._rest) == before or not self._rest:
                return

    def _everything(self) -> Iterator[Part]:
        text, self._rest = self._rest, ""
        if text:
            yield Words(text)

    def _start(self) -> Iterator[Part]:
        """Calls alone, or none."""
        assert self._wanted is not None
        marker = self._wanted.marker
        if self._rest.startswith(marker):
            self._read = self._name
        elif not marker.startswith(self._rest):
            self._read = self._everything
        return
        yield

    def _words(self) -> Iterator[Part]:
        assert self._wanted is not None
        words, found, _ = self._rest.partition(self._wanted.marker)
        if found:
            self._rest, self._read = self._rest[len(words) :], self._name
            words = words.rstrip()
        else:
            words = words[: len(words) - _held_back(words, self._wanted.marker)]
            self._rest = self._rest[len(words) :]
        if words:
            yield Words(words)

    def _name(self) -> Iterator[Part]:
        assert self._wanted is not None
        name, found, rest = self._rest[len(self._wanted.before) :].partition(self._wanted.between)
        if found:
            self._rest, self._read = rest, self._arguments
            self._number += 1
            self._scan = _ObjectScan()
            yield CallBegins(self._number, f"call_{self._interaction}_{self._number}", name)

    def _arguments(self) -> Iterator[Part]:
        length = self._scan.length(self._rest)
        text, self._rest = self._rest[:length], self._rest[length:]
        if self._scan.complete:
            self._read = self._gap
        if text:
            yield ArgumentsPiece(self._number, text)

    def _gap(self) -> Iterator[Part]:
        """What closes a call and stands before the next one."""
        assert self._wanted is not None
        place = self._rest.find(self._wanted.marker)
        if place >= 0:
            self._rest, self._read = self._rest[place:], self._name
        return
        yield


class _ObjectScan:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self.complete = False
        self._depth, self._quoted, self._escaped = 0, False, False

    def length(self, text: str) -> int:
        """How many of these characters belong to the object."""
        for place, character in enumerate(text):
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
                    return place + 1
        return len(text)


def read_all(wanted: FunctionCalls | None, interaction: str, text: str) -> Said:
    """The words and the calls of a whole completion."""
    reader = CallReader(wanted, interaction)
    words, calls = "", list[Call]()
    for part in [*reader.feed(text), *reader.end()]:
        match part:
            case Words(said):
                words += said
            case CallBegins(_, identifier, name):
                calls.append(Call(identifier, name, ""))
            case ArgumentsPiece(_, piece):
                calls[-1] = Call(calls[-1].id, calls[-1].name, calls[-1].arguments + piece)
    return Said(words, tuple(calls), reader.cut)


def _held_back(text: str, marker: str) -> int:
    """Length of the end of a text that may belong to a call: white space, and after it a beginning of the marker."""
    longest = next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)
    before = text[: len(text) - longest]
    return longest + len(before) - len(before.rstrip())
