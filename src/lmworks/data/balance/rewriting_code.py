"""Code written otherwise: without its comments, or with another indent; every name and every other token stays.

A lexer (pygments) says what is a comment and what a literal. What is written is read again: where its tokens but for
comments and spaces, or for Python what the parser makes of it, are not the same, the text stays as it was.
"""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from random import Random
from typing import Any

from lmworks.data.annotation import Text
from lmworks.data.source_code import source_code_type

_LONGEST = 200_000  # characters; lexers are slow
_LANGUAGES = frozenset(
    {
        *("c", "c++", "csharp", "cuda", "dart", "go", "java", "javascript", "julia", "kotlin", "lua", "python", "r"),
        *("rust", "scala", "swift", "typescript"),
    }
)  # of which a comment is nothing but a comment, and an indent, but for Python's, nothing but looks
_DIRECTIVE = re.compile(  # a comment that says something to a program
    r"#!|//go:|//\s*\+build|#.*coding[:=]|///\s*<(?:reference|amd)|//\s*@ts-|/\*\s*@(?:jsx|flow)"
)
_INDENTS = ("  ", "    ", "\t")


def strip_comments(text: Text, numbers: Random) -> str:
    """Without comments, and without the lines that held nothing else. Docstrings stay, as do comments to programs."""
    del numbers
    tokens = _tokens(text)
    if tokens is None:
        return text.text
    spans = [
        (start, start + len(value.rstrip("\n")))
        for start, kind, value in tokens
        if kind == "comment" and not _DIRECTIVE.match(value)
    ]
    return _if_equal(text, _without(text.text, spans)) if spans else text.text


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A comment goes but for its newlines, so that no two tokens meet; then the lines that are empty for it go."""
    gone = bytearray(len(text))
    for start, end in spans:
        gone[start:end] = b"\1" * (end - start)
    rows = []
    position = 0
    for line in text.split("\n"):
        marks = gone[position : position + len(line)]
        if not any(marks):
            rows.append(line)
        elif kept := _kept(line, marks).rstrip():
            rows.append(kept)
        position += len(line) + 1
    return "\n".join(rows)


def _kept(line: str, gone: bytearray) -> str:
    """A space in place of each comment."""
    parts = []
    for place, character in enumerate(line):
        if not gone[place]:
            parts.append(character)
        elif place == 0 or not gone[place - 1]:
            parts.append(" ")
    kept = "".join(parts)
    return kept if line[:1].isspace() else kept.lstrip() if gone and gone[0] else kept


def reindent(text: Text, numbers: Random) -> str:
    """Indented by another unit: two spaces, four, or a tab. Lines that begin inside of a literal stay."""
    tokens = _tokens(text)
    if tokens is None:
        return text.text
    lines = text.text.split("\n")
    fixed = _inside_literals(lines, tokens)
    unit = _unit(line for line, stays in zip(lines, fixed, strict=True) if not stays)
    if unit is None:
        return text.text
    others = [indent for indent in _INDENTS if indent != unit]
    new = others[int(numbers.random() * len(others))]
    rows = [line if stays else _reindented(line, unit, new) for line, stays in zip(lines, fixed, strict=True)]
    return _if_equal(text, "\n".join(rows))


def _inside_literals(lines: Iterable[str], tokens: Iterable[tuple[int, str, str]]) -> list[bool]:
    """Whether the space that a line begins with is part of a literal."""
    literals = [(start, start + len(value)) for start, kind, value in tokens if kind == "literal"]
    found = []
    position = at = 0
    for line in lines:
        while at < len(literals) and literals[at][1] <= position:
            at += 1
        found.append(at < len(literals) and literals[at][0] <= position and line[:1].isspace())
        position += len(line) + 1
    return found


def _reindented(line: str, unit: str, new: str) -> str:
    body = line.lstrip(" \t")
    levels, rest = divmod(len(line) - len(body), len(unit))
    return new * levels + " " * rest + body if body else line


def _unit(lines: Iterable[str]) -> str | None:
    """What a file is indented by, if it is by one thing: by how much most of its lines go in further than the last."""
    steps: Counter[int] = Counter()
    tabs = spaces = last = 0
    for line in lines:
        body = line.lstrip(" \t")
        if not body:
            continue
        indent = line[: len(line) - len(body)]
        if "\t" in indent.lstrip("\t"):
            return None
        tabs, spaces = tabs + ("\t" in indent), spaces + (indent[:1] == " ")
        if len(indent) > last:
            steps[len(indent) - last] += 1
        last = len(indent)
    if not steps or (tabs and spaces):
        return None
    unit = "\t" if tabs else " " * steps.most_common(1)[0][0]
    return unit if unit in _INDENTS else None


# ---------------------------------------------------------------------------------------------------------------------
# What is the same


def _tokens(text: Text) -> list[tuple[int, str, str]] | None:
    """(start, kind, text) of each token, the kind "comment", "literal", "space" or ""; None for a text that is left
    alone."""
    name = PurePosixPath(text.uri).name
    media_type = source_code_type(PurePosixPath(name))
    if media_type is None or media_type.removeprefix("text/x-") not in _LANGUAGES or len(text.text) > _LONGEST:
        return None
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        return None
    return [(start, _kind(kind, value), value) for start, kind, value in lexer.get_tokens_unprocessed(text.text)]


def _kind(kind: Any, value: str) -> str:
    from pygments.token import Comment, String

    programs = (Comment.Preproc, Comment.PreprocFile, Comment.Hashbang)
    if kind in Comment and not any(kind in other for other in programs):
        return "comment"
    if kind in String:
        return "literal"
    return "space" if not value.strip() else ""


def _if_equal(text: Text, written: str) -> str:
    """What was written, if it says the same to a lexer and, of Python, to the parser; else the text as it was."""
    before, after = _tokens(text), _tokens(Text(written, text.kind, text.language, text.uri))
    if before is None or after is None or _said(before) != _said(after):
        return text.text
    if PurePosixPath(text.uri).suffix in (".py", ".pyi") and _parsed(text.text) != _parsed(written):
        return text.text
    return written


def _said(tokens: Iterable[tuple[int, str, str]]) -> str:
    """All characters of tokens that are no comments, without those of space between them."""
    solid = ((kind, value) for _, kind, value in tokens if kind not in ("comment", "space"))
    return "\0".join(value if kind == "literal" else "".join(value.split()) for kind, value in solid)


def _parsed(text: str) -> str | None:
    """What Python makes of it; None for what it does not understand, such as an older Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
