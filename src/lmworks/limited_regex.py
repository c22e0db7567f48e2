"""Regular expressions that come from a file, such as a data set's, on texts that come from anywhere.

`re` cannot be stopped: `(a|aa)+$` takes longer than anybody lives on forty letters. The `regex` library understands the
same expressions and looks at the clock as it goes.
"""

from collections.abc import Iterator
from typing import Any

import regex

SECONDS = 1.0  # of the clock, for one expression on one text


class SlowPatternError(ValueError):
    """An expression that took longer than `SECONDS` on a text: it is not known whether it matches."""


def compile_pattern(pattern: str, ascii_only: bool = False) -> Any:
    """The expression, compiled. ValueError for what is none."""
    try:
        return regex.compile(pattern, regex.ASCII if ascii_only else 0)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


def finds(pattern: str, text: str) -> bool:
    """Whether the expression is found in the text. SlowPatternError where that takes too long, ValueError as above."""
    return next(find_all(compile_pattern(pattern), text), None) is not None


def find_all(compiled: Any, text: str) -> Iterator[Any]:
    """The matches of a compiled expression, as `finditer`. SlowPatternError where they take too long."""
    try:
        yield from compiled.finditer(text, timeout=SECONDS)
    except TimeoutError:
        raise SlowPatternError(
            f"the expression {compiled.pattern!r} takes more than {SECONDS:g} s on a text of {len(text):,} characters: "
            "write it without parts that repeat and match the same"
        ) from None
