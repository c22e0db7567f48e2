"""Markdown written block by block, inside of list items and quotations (CommonMark 0.31, section 5)."""

import re
from dataclasses import dataclass

_MAX_NESTING = 20  # containers further in add no prefix: a line must not grow with the depth of a hostile page
_TICKS = re.compile(r"`{3,}")


@dataclass(slots=True)
class _Container:
    first: str  # before the first line of the container
    rest: str  # before all others
    tight: bool  # an item that follows the block before it without an empty line
    begun: bool = False


class BlockWriter:
    """Takes blocks of one or more lines, and gives the Markdown text in which they stand one after another."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._containers: list[_Container] = []
        self._before: list[_Container] = []  # of the block before

    def open(self, first: str, rest: str, tight: bool = False) -> None:
        """What follows, up to `close`, is inside of a container: its first line after `first`, others after `rest`."""
        self._containers.append(_Container(first, rest, tight))

    def close(self) -> None:
        self._containers.pop()

    def block(self, text: str) -> None:
        """One block; nothing is written for an empty text."""
        if not text:
            return
        inside = self._containers[:_MAX_NESTING]
        if self._parts:
            self._parts.append(self._gap(inside))
        first = "".join(container.rest if container.begun else container.first for container in inside)
        rest = "".join(container.rest for container in inside)
        for container in inside:
            container.begun = True
        lines = text.split("\n")
        self._parts.append(first + lines[0])
        self._parts.extend("\n" + (rest + line if line else rest.rstrip()) for line in lines[1:])
        self._before = inside

    def text(self) -> str:
        return "".join(self._parts)

    def _gap(self, inside: list[_Container]) -> str:
        """An empty line, which goes on with the containers that both blocks are in; none before a further item."""
        fresh = next((container for container in inside if not container.begun), None)
        if fresh is not None and fresh.tight:
            return "\n"
        shared = ""
        for ours, theirs in zip(inside, self._before, strict=False):
            if ours is not theirs:
                break
            shared += ours.rest
        return f"\n{shared.rstrip()}\n"


def code_block(text: str, language: str = "") -> str:
    """A fenced code block; the fence is longer than any in the text. Empty for a text without any character to see."""
    text = text.replace("\f", "\n").strip("\n")
    if not text.strip():
        return ""
    fence = "`" * max([3, *(len(run) + 1 for run in _TICKS.findall(text))])
    return f"{fence}{language}\n{text}\n{fence}"
