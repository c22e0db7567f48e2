"""Strings on which a regular expression backtracks most, made from the expression itself.

A repeated part costs more than linear time where what follows it fails only at the end, and the search then begins
again, one place further, or with the part divided in another way. So for each repeated part there is a string of what
comes before it, the part over and over, and a character that ends it badly; and one in which both are repeated.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from re import _constants as codes  # type: ignore[attr-defined]  # private, and stable since Python 2
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

# What a class of characters is tried with: those that most expressions tell apart.
_TRIED = " \n\ta1.-_=*'\"<>[](){}|:;,/#\\&@AZ0\r\f\xe9\u2014\u00ad\u0303"
_ENDINGS = ("\x00", "\n", "")
_LONGEST = 60  # characters of a repeated piece


@dataclass(frozen=True, slots=True)
class Attack:
    """`start`, `piece` so often that the whole has a given size, and `end`."""

    start: str
    piece: str
    end: str

    def of_size(self, size: int) -> str:
        return self.start + self.piece * max(1, size // len(self.piece)) + self.end


def attacks_of(pattern: re.Pattern[Any]) -> list[Attack]:
    """The strings for an expression, without repetition; those for one of bytes are to be encoded as Latin-1."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    parsed = parser.parse(source, pattern.flags & ~re.DEBUG)
    found: dict[Attack, None] = {}
    for before, pieces in _repeats(list(parsed), ""):
        for piece in pieces:
            if not piece or len(piece) > _LONGEST:
                continue
            for end in _ENDINGS:
                found[Attack(before, piece, end)] = None
            if before:
                found[Attack("", before[-_LONGEST:] + piece, "\x00")] = None
                found[Attack("", before[-_LONGEST:] + piece * 20, "\x00")] = None
    return list(found)


def patterns_of(module: ModuleType) -> list[re.Pattern[Any]]:
    """All expressions that a module holds, in its names and in what they hold."""
    found: dict[int, re.Pattern[Any]] = {}

    def look(value: Any, depth: int) -> None:
        if isinstance(value, re.Pattern):
            found[id(value)] = value
        elif depth and isinstance(value, (tuple, list, set, frozenset)):
            for each in value:
                look(each, depth - 1)
        elif depth and isinstance(value, dict):
            for each in value.values():
                look(each, depth - 1)
        elif depth and hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            for name in value.__dataclass_fields__:
                look(getattr(value, name, None), depth - 1)

    for value in vars(module).values():
        look(value, 3)
    return list(found.values())


def _repeats(items: list[tuple[Any, Any]], before: str) -> Iterator[tuple[str, list[str]]]:
    """Each repeated part, as what comes before it and what it may be."""
    for number, (code, argument) in enumerate(items):
        here = before + _example(items[:number])
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            _, most, body = argument
            if most >= 20:
                yield here, _examples(list(body))
            yield from _repeats(list(body), here)
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from _repeats(list(branch), here)
        elif code is codes.SUBPATTERN:
            yield from _repeats(list(argument[3]), here)
        elif code in (codes.ASSERT, codes.ASSERT_NOT):
            yield from _repeats(list(argument[1]), here)
        elif code is codes.ATOMIC_GROUP:
            yield from _repeats(list(argument), here)


def _examples(items: list[tuple[Any, Any]]) -> list[str]:
    """Some strings that the items match."""
    if len(items) == 1 and items[0][0] is codes.BRANCH:
        return [text for branch in items[0][1][1] for text in _examples(list(branch))[:4]]
    if len(items) == 1 and items[0][0] is codes.SUBPATTERN:
        return _examples(list(items[0][1][3]))
    if len(items) == 1 and (choices := _characters(*items[0])):
        return choices[:8]
    return [_example(items), *({_example(items, number) for number in range(1, 4)} - {_example(items)})]


def _example(items: list[tuple[Any, Any]], choice: int = 0) -> str:
    parts: list[str] = []
    for code, argument in items:
        if choices := _characters(code, argument):
            parts.append(choices[choice % len(choices)])
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            least, most, body = argument
            parts.append(_example(list(body), choice) * min(max(least, 1 if choice else 0), most))
        elif code is codes.BRANCH:
            branches = argument[1]
            parts.append(_example(list(branches[choice % len(branches)]), choice))
        elif code is codes.SUBPATTERN:
            parts.append(_example(list(argument[3]), choice))
        elif code is codes.ATOMIC_GROUP:
            parts.append(_example(list(argument), choice))
        elif code is codes.AT and argument in (codes.AT_BEGINNING, codes.AT_BEGINNING_LINE) and parts:
            parts.append("\n")
    return "".join(parts)


def _characters(code: Any, argument: Any) -> list[str]:
    """The tried characters that one item matches; none for an item that is not of one character."""
    match: Callable[[str], bool]
    if code is codes.LITERAL:
        return [chr(argument)]
    if code is codes.NOT_LITERAL:
        match = lambda character: ord(character) != argument  # noqa: E731
    elif code is codes.ANY:
        match = lambda character: character != "\n"  # noqa: E731
    elif code is codes.IN:
        match = lambda character: _in_class(argument, character)  # noqa: E731
    else:
        return []
    found = [character for character in _TRIED if match(character)]
    return found or [chr(value) for kind, value in argument if kind is codes.LITERAL][:3] if code is codes.IN else found


def _in_class(items: list[tuple[Any, Any]], character: str) -> bool:
    inverse = items[0][0] is codes.NEGATE
    return inverse != any(_in_item(kind, value, character) for kind, value in items)


def _in_item(kind: Any, value: Any, character: str) -> bool:
    if kind is codes.LITERAL:
        return ord(character) == value
    if kind is codes.RANGE:
        return value[0] <= ord(character) <= value[1]
    if kind is codes.CATEGORY:
        tests = {
            codes.CATEGORY_DIGIT: character.isdigit(),
            codes.CATEGORY_SPACE: character.isspace(),
            codes.CATEGORY_WORD: character.isalnum() or character == "_",
        }
        opposite = {
            codes.CATEGORY_NOT_DIGIT: codes.CATEGORY_DIGIT,
            codes.CATEGORY_NOT_SPACE: codes.CATEGORY_SPACE,
            codes.CATEGORY_NOT_WORD: codes.CATEGORY_WORD,
        }
        return not tests[opposite[value]] if value in opposite else tests[value]
    return False
