"""Regular expressions that mean the same to Python's `re` and to the matcher of constrained decoding."""

import re
import warnings

from lmworks.generate.constraint import ConstraintError

_CLASS_OR_ESCAPE = re.compile(r"\\p\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_FLAGS = re.compile(r"\(\?([a-zA-Z]*-?[a-zA-Z]*)[:)]")
_UNSUPPORTED = {
    r"[*+?}]\+": "possessive repetition (a++)",
    r"\(\?[=!<](?!\w+>)": "look-around",
    r"\(\?P=|\(\?\(": "references to groups",
    r"\(\?>": "atomic groups",
    r"(?<!^)\^|\$(?!$)": "^ and $ inside the expression",
}


def check_expression(pattern: str, where: str = "the expression") -> None:
    """ConstraintError for an expression that is none, or that the matcher would understand differently.

    `\\d`, `\\w` and `\\s` are ASCII. Python has no `\\p{…}`, which the matcher does: it is checked there.
    """
    plain = re.sub(r"\\p\{\^?\w+(=\w+)?\}", "a", pattern, flags=re.IGNORECASE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # `re` warns of what other dialects read as operations on sets
        try:
            re.compile(plain, re.ASCII)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ConstraintError(f"{where} {_short(pattern)} is not a regular expression: {error}") from error
    bare = _CLASS_OR_ESCAPE.sub("_", pattern)
    for found in _FLAGS.finditer(bare):
        if found[1] not in ("", "s"):
            raise ConstraintError(
                f"{where} {_short(pattern)} sets the flag {found[1]!r}: write it out, such as [Aa] for (?i:a)"
            )
    for sign, name in _UNSUPPORTED.items():
        if re.search(sign, bare):
            raise ConstraintError(f"{where} {_short(pattern)} uses {name}, which is not supported: write it without")


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else pattern[:57] + "...")
