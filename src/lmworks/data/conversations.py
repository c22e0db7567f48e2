"""Rows of conversations and functions in files: TRL's row types.

`messages` (and `tools`), or `prompt` and `completion`, both texts or both lists of messages.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from lmworks.config import from_mapping
from lmworks.corpus.sources.files import FoundFile, NoSourceError, find_files
from lmworks.data.row_formats import TABLES, cell_value, parse_json, table_rows, trl_columns
from lmworks.records import Conversation, Message, PromptCompletion, Provenance, RejectedRecord, TextOrMessages

# Who may speak after whom, as templates have it that check (Llama 2's, Mistral's, Gemma's): "" is the beginning.
_NEXT = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
_PROVENANCE = ("source", "annotator", "judge", "rubric", "order", "id", "provenance")
SUFFIXES = (".json", ".jsonl", ".parquet", *TABLES)
CONVERSATIONS = "conversations.jsonl"  # of an artefact: rows that a stage made

Dialogue = Conversation | PromptCompletion
T = TypeVar("T")


def conversation_files(
    sources: Sequence[str],
    base: Path | None = None,
    rejected: list[RejectedRecord] | None = None,
    suffixes: Sequence[str] = SUFFIXES,
    rows: str = "conversations",
) -> list[Path]:
    """The files of `sources` (folders, files, globs, relative to `base`) that may hold such rows, in a fixed order.

    What else the sources hold is added to `rejected`. NoSourceError where there is no such file.
    """
    chosen: list[Path] = []
    others, kinds = [] if rejected is None else rejected, " or ".join(suffixes)
    for found in find_files(sources, (), base or Path.cwd()):
        if not isinstance(found, FoundFile):
            others.append(found)
        elif found.path.suffix in suffixes:
            chosen.append(found.path)
        else:
            others.append(RejectedRecord(found.uri, f"{rows} are {kinds} files"))
    if not chosen:
        raise NoSourceError(f"no {kinds} file with {rows} in {', '.join(sources) or f'nothing: set {rows}'}")
    return chosen


def pair_files(sources: Sequence[str], base: Path, rejected: list[RejectedRecord] | None = None) -> list[Path]:
    """The files of rows in `sources`, as `conversation_files`."""
    return conversation_files(sources, base, rejected, (".jsonl", *TABLES), "pairs")


# ---------------------------------------------------------------------------------------------------------------------
# Rows of any kind


def rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, row) of a .parquet, .csv or .tsv file, of a .json file, which holds one row or a list, and of a
    .jsonl file, whose lines are not parsed yet: `columns_of` does it."""
    if path.suffix == ".jsonl":
        with path.open("rb") as stream:
            yield from ((f"{path}, line {number}", line) for number, line in enumerate(stream, 1) if line.strip())
    elif path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile  # ArrowInvalid, a ValueError, for another file

        rows = (row for batch in ParquetFile(path).iter_batches(1024) for row in batch.to_pylist())
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    elif path.suffix in TABLES:
        with path.open(encoding="utf-8-sig", newline="") as table:
            for where, cells in table_rows(table, str(path), TABLES[path.suffix]):
                yield where, {column: cell_value(column, cell) for column, cell in cells.items()}
    else:
        found = parse_json(path.read_bytes(), str(path))
        inner = found[0] if isinstance(found, list) and found else None
        several = isinstance(inner, list) or (isinstance(inner, dict) and "role" not in inner)
        yield from ((f"{path}, row {n}", row) for n, row in enumerate(found, 1)) if several else [(str(path), found)]


def parsed_rows(files: Sequence[Path], parse: Callable[[Any, str], T]) -> Iterator[tuple[Path, T]]:
    """Rows as `parse` makes them of each value and its place, with the file. ValueError after the last row, where it
    refused some: the first of them, and how many more."""
    refused: list[ValueError] = []
    for path in files:
        for where, row in rows_of(path):
            try:
                yield path, parse(row, where)
            except ValueError as error:
                refused.append(error)
    if refused:
        more = f". {len(refused) - 1:,} more rows are wrong" if len(refused) > 1 else ""
        raise ValueError(f"{refused[0]}{more}") from refused[0]


def columns_of(found: Any, where: str) -> dict[str, Any]:
    """The columns of an object, or of a line of a .jsonl file, without those that are null. ValueError for another
    value."""
    found = parse_json(found, where) if isinstance(found, bytes) else found
    if not isinstance(found, dict):
        raise ValueError(f"{where}: a row is an object, got {found!r:.100}")
    return {key: value for key, value in found.items() if value is not None}


# ---------------------------------------------------------------------------------------------------------------------
# Conversations


def read_dialogues(files: Sequence[Path], formats: Counter[str] | None = None) -> Iterator[tuple[Path, Dialogue]]:
    """The rows of the files, in order, each with its file; errors as `parsed_rows`. `formats` counts as `parse_row`."""

    def parse(row: Any, where: str) -> Dialogue:
        dialogue = parse_row(row, where, formats)
        check_turns(dialogue, where)
        return dialogue

    return parsed_rows(files, parse)


def parse_row(found: Any, where: str, formats: Counter[str] | None = None) -> Dialogue:
    """A list of messages, an object with it as `messages`, or one with `prompt` and `completion`; both objects may have
    `tools`, and columns that say who made them. A line of a .jsonl file may be given as it is. Alpaca's and ShareGPT's
    rows are read as these, which `formats` counts.

    Arguments of calls are objects, or their JSON as OpenAI's API has them. `where` is the source of its provenance.
    ValueError says `where` it is not so.
    """
    found = parse_json(found, where) if isinstance(found, bytes) else found
    columns = columns_of({"messages": found} if isinstance(found, list) else found, where)
    row = trl_columns(columns, where, formats)
    names = ("messages", "tools") if "messages" in row else ("prompt", "completion", "tools")
    if "messages" not in row and not {"prompt", "completion"} <= row.keys():
        needs = 'a row needs "messages", or "prompt" and "completion", or Alpaca\'s or ShareGPT\'s columns'
        fix = "align on them (`lmworks align`)" if {"chosen", "label", "rating"} & row.keys() else "rename its columns"
        raise ValueError(f"{where}: {needs}; got {', '.join(row) or 'none'}: {fix}")
    if unknown := [name for name in row if name not in (*names, *_PROVENANCE)]:
        raise ValueError(f"{where}: unknown columns {', '.join(unknown)}: remove them; allowed are {', '.join(names)}")
    tools, provenance = tuple(parse_tools(row.get("tools") or [], where)), Provenance(source=where)
    said = [
        row[name] if isinstance(row[name], str) and name != "messages" else _messages(row[name], f"{where}: {name}")
        for name in names[:-1]
    ]
    if "messages" in row:
        return Conversation(said[0], provenance, tools)
    try:
        return PromptCompletion(said[0], said[1], provenance, tools)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def turns_of(row: Dialogue) -> tuple[tuple[Message, ...], int]:
    """The messages of a row, and how many of them are its prompt, of which nothing is learned. A prompt that is a text
    is what a user says, a completion that is one what the assistant answers."""
    if isinstance(row, Conversation):
        return row.messages, 0
    prompt = as_messages(row.prompt, "user")
    return (*prompt, *as_messages(row.completion, "assistant")), len(prompt)


def as_messages(said: TextOrMessages, role: str) -> tuple[Message, ...]:
    """Messages as they are; a text as the one message of this role."""
    return (Message(role, said),) if isinstance(said, str) else said  # type: ignore[arg-type]


def check_turns(row: Dialogue, where: str) -> None:
    """Check the turns: ValueError for an order that templates refuse, an answer that says nothing, and for none."""
    messages, given = turns_of(row)
    for number, (before, message) in enumerate(pairwise((None, *messages)), 1):
        assert message is not None
        uncalled = before and message.role == "tool" and before.role == "assistant" and not before.tool_calls
        if message.role not in _NEXT[before.role if before else ""] or uncalled:
            after = (
                f"after the {before.role}'s{' without tool_calls' * bool(uncalled)}" if before else "at the beginning"
            )
            raise ValueError(
                f"{where}: message {number} is the {message.role}'s, {after}. A system message comes first, then user "
                "and assistant take turns, and results (tool) follow an assistant's tool_calls: reorder them"
            )
        if message.role == "assistant" and number > given and not (message.content.strip() or message.tool_calls):
            raise ValueError(f"{where}: message {number}, the assistant's, is empty: write it, or remove the row")
    if not any(message.role == "assistant" for message in messages[given:]):
        raise ValueError(f"{where}: there is nothing to learn, as the assistant says nothing: remove the row")


def parse_tools(found: Any, where: str) -> list[Mapping[str, Any]]:
    """A list of functions, or one, with or without the `{"type": "function", "function": ...}` around each."""
    several = found if isinstance(found, list) else [found]
    tools = (_function(tool, f"{where}: function {number}") for number, tool in enumerate(several, 1))
    return [{"type": "function", "function": tool} for tool in tools]


def _function(found: Any, where: str) -> dict[str, Any]:
    inner = found.get("function", found) if isinstance(found, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        wanted = 'must be {"name": ..., ...}, or that as "function" of {"type": "function", ...}'
        raise ValueError(f"{where} {wanted}, got {found!r:.100}")
    return inner


def _messages(found: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError(f'{where}: a conversation is a list of messages, {{"role": ..., "content": ...}}, not empty')
    return tuple(_message(each, f"{where}: message {number}") for number, each in enumerate(found, 1))


def _message(found: Any, where: str) -> Message:
    if isinstance(found, dict) and isinstance(calls := found.get("tool_calls") or [], list):
        found = {**found, "tool_calls": [_call(call, where) for call in calls]}
        if calls and found.get("content") is None:
            found["content"] = ""
    return from_mapping(Message, found, [where])


def _call(call: Any, where: str) -> Mapping[str, Any]:
    inner = _function(call, f"{where}: a tool call")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{where}: the arguments of {inner['name']}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: the arguments of {inner['name']} must be an object, got {arguments!r:.100}")
    return {**call, "type": "function", "function": {**inner, "arguments": arguments}}
