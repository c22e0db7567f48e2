"""The conversation and the functions that a user names by a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmworks.data.conversations import parse_conversation, parse_json, parse_tools, read_text
from lmworks.records import Message


def read_conversation(path: Path, row: int = 1) -> tuple[Sequence[Message], Sequence[Mapping[str, Any]]]:
    """The messages, and the functions if the file names any.

    A .jsonl file holds a conversation in each line, of which `row` is shown, counted from 1; another file is one.
    ValueError says which message of which row is none.
    """
    where, text = str(path), read_text(path)
    if path.suffix == ".jsonl":
        rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if not 1 <= row <= len(rows):
            raise ValueError(f"{path} has {len(rows)} conversations: --row must be one of them, got {row}")
        line_number, text = rows[row - 1]
        where = f"{path}, line {line_number}"
    elif row != 1:
        raise ValueError(f"--row chooses a line of a .jsonl file, and {path} is one conversation")
    found = parse_conversation(parse_json(text, where), where)
    return list(found.messages), list(found.tools)


def read_tools(path: Path) -> list[Mapping[str, Any]]:
    """A list of functions, or one, with or without the `{"type": "function", "function": ...}` around each."""
    found = parse_json(read_text(path), str(path))
    return parse_tools(found if isinstance(found, list) else [found], str(path))
