"""Work that comes in parts, so that whoever shares the machine with it can do something else in between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def run_parts(parts: Generator[None, None, T]) -> T:
    """What a generator returns, one part after the other."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value
