"""Rows of conversations and functions in files, as people write them and as training data have them.

TRL's row types: `messages` (and `tools`), or `prompt` and `completion`, both texts or both lists of messages.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.corpus.sources.files import FoundFile, NoSourceError, find_files
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
SUFFIXES = (".json", ".jsonl", ".parquet")
CONVERSATIONS = "conversations.jsonl"  # of an artefact: rows that a stage made

Dialogue = Conversation | PromptCompletion
T = TypeVar("T")


class RowError(ValueError):
    """A row that nothing can be learned from; `kind` is common to all rows that are wrong in one way."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def conversation_files(
    sources: Sequence[str],
    base: Path | None = None,
    left_out: list[RejectedRecord] | None = None,
    suffixes: Sequence[str] = SUFFIXES,
    rows: str = "conversations",
) -> list[Path]:
    """The files of `sources` (folders, files, globs, relative to `base`) that may hold such rows, in a fixed order.

    What else the sources hold is added to `left_out`. NoSourceError where there is no such file.
    """
    found = list(find_files(sources, (), base or Path.cwd()))
    files = [each for each in found if isinstance(each, FoundFile)]
    chosen, kinds = [each.path for each in files if each.path.suffix in suffixes], " or ".join(suffixes)
    if left_out is not None:
        left_out += [each for each in found if isinstance(each, RejectedRecord)]
        others = (each for each in files if each.path.suffix not in suffixes)
        left_out += [RejectedRecord(each.uri, f"{rows} are {kinds} files") for each in others]
    if not chosen:
        raise NoSourceError(f"no {kinds} file with {rows} in {', '.join(sources) or f'nothing: set {rows}'}")
    return chosen


def read_dialogues(files: Sequence[Path]) -> Iterator[tuple[Path, Dialogue]]:
    """The rows of the files, in order, each with its file; errors as `parsed_rows`."""

    def parse(row: Any, where: str) -> Dialogue:
        dialogue = parse_row(row, where)
        check_turns(dialogue, where)
        return dialogue

    return parsed_rows(files, parse)


def parsed_rows(files: Sequence[Path], parse: Callable[[Any, str], T]) -> Iterator[tuple[Path, T]]:
    """What `parse` makes of each row and its place, with its file. RowError after the last row, where some cannot be
    trained on: the first of them, what to do, and how many more are wrong in its way and in others."""
    wrong: list[ValueError] = []
    for path in files:
        for where, row in rows_of(path):
            try:
                yield path, parse(row, where)
            except ValueError as error:
                wrong.append(error)
    if wrong:
        kinds = [getattr(error, "kind", "form") for error in wrong]
        like, others = kinds.count(kinds[0]) - 1, len(kinds) - kinds.count(kinds[0])
        more = f". {like:,} more rows are wrong in this way" if like else ""
        told = f"{wrong[0]}{more}" + (f". {others:,} are wrong in other ways" if others else "")
        raise RowError(kinds[0], told) from wrong[0]


def rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, row) of a .parquet file, of a .json file, which holds one row or a list, and of a .jsonl file,
    whose lines are not decoded yet."""
    if path.suffix == ".jsonl":
        with path.open("rb") as stream:
            yield from ((f"{path}, line {number}", line) for number, line in enumerate(stream, 1) if line.strip())
    elif path.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            batches = ParquetFile(path).iter_batches(1024)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
        except ArrowException as error:
            raise ValueError(f"{path} is no Parquet file, or a damaged one: {error}") from error
    else:
        found = parse_json(read_text(path), str(path))
        inner = found[0] if isinstance(found, list) and found else None
        several = isinstance(inner, list) or (isinstance(inner, dict) and "role" not in inner)
        yield from ((f"{path}, row {n}", row) for n, row in enumerate(found, 1)) if several else [(str(path), found)]


def parse_row(found: Any, where: str) -> Dialogue:
    """A list of messages, an object with it as `messages`, or one with `prompt` and `completion`; both objects may have
    `tools`, and columns that say who made them. A line of a .jsonl file may be given as it is.

    Arguments of calls are objects, or their JSON as OpenAI's API has them. `where` is the source of its provenance.
    ValueError says `where` it is not so.
    """
    if isinstance(found, bytes):
        found = parse_json(decoded(found, where), where)
    row = {"messages": found} if isinstance(found, list) else found
    row = {key: value for key, value in row.items() if value is not None} if isinstance(row, dict) else row
    if not isinstance(row, dict) or not ("messages" in row or {"prompt", "completion"} <= row.keys()):
        got = _keys(row) if isinstance(row, dict) else f"{row!r:.100}"
        needs = 'a row needs the list of its messages as "messages", or "prompt" and "completion"'
        raise RowError("row type", f"{where}: {needs}; got {got}: rename its columns")
    columns = ("messages", "tools") if "messages" in row else ("prompt", "completion", "tools")
    if unknown := [str(name) for name in row if name not in (*columns, *_PROVENANCE)]:
        allowed = ", ".join((*columns, *_PROVENANCE))
        raise RowError("columns", f"{where}: unknown columns {', '.join(unknown)}: remove them; allowed are {allowed}")
    tools, provenance = tuple(parse_tools(row.get("tools") or [], where)), Provenance(source=where)
    dialogue: Dialogue
    if "messages" in row:
        dialogue = Conversation(_messages(row["messages"], where), provenance, tools)
    else:
        prompt, completion = (_text_or_messages(row[name], f"{where}: {name}") for name in columns[:2])
        if isinstance(prompt, str) and (tools or not isinstance(completion, str)):
            raise ValueError(f"{where}: a prompt that is a text has a completion that is one, and no tools")
        dialogue = PromptCompletion(prompt, completion, provenance, tools)
    check_encodable([[to_mapping(each) for each in turns_of(dialogue)[0]], tools], where)
    return dialogue


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
    """RowError for turns in an order that templates refuse, for an answer that says nothing, and for none."""
    messages, given = turns_of(row)
    before = ""
    for number, message in enumerate(messages, 1):
        uncalled = (before, message.role) == ("assistant", "tool") and not messages[number - 2].tool_calls
        if message.role not in _NEXT[before] or uncalled:
            after = f"after the {before}'s{' without tool_calls' * uncalled}" if before else "at the beginning"
            raise RowError(
                "order",
                f"{where}: message {number} is the {message.role}'s, {after}. A system message comes first, then user "
                "and assistant take turns, and results (tool) follow an assistant's tool_calls: reorder them",
            )
        if message.role == "assistant" and number > given and not (message.content.strip() or message.tool_calls):
            raise RowError(
                "empty", f"{where}: message {number}, the assistant's, is empty: write it, or remove the row"
            )
        before = message.role
    if not any(message.role == "assistant" for message in messages[given:]):
        remedy = 'add a message of the role "assistant", or remove the row'
        raise RowError("no answer", f"{where}: there is nothing to learn, as the assistant says nothing: {remedy}")


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


def _text_or_messages(found: Any, where: str) -> TextOrMessages:
    return found if isinstance(found, str) else _messages(found, where)


def _messages(found: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError(
            f'{where}: a conversation is a list of messages, {{"role": ..., "content": ...}}, and not empty'
        )
    return tuple(_message(each, f"{where}: message {number}") for number, each in enumerate(found, 1))


def _message(found: Any, where: str) -> Message:
    if isinstance(found, dict) and isinstance(calls := found.get("tool_calls") or [], list):
        found = {**found, "tool_calls": [_call(call, where) for call in calls]}
        if calls and found.get("content") is None and found.get("role") == "assistant":
            found["content"] = ""
    try:
        return from_mapping(Message, found, [where])
    except ConfigError as error:
        raise ValueError(f"{error!s:.300}") from error


def _call(call: Any, where: str) -> Mapping[str, Any]:
    inner = _function(call, f"{where}: a tool call")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{where}: the arguments of {inner['name']}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: the arguments of {inner['name']} must be an object, got {arguments!r:.100}")
    return {**call, "type": "function", "function": {**inner, "arguments": arguments}}


def check_encodable(value: Any, where: str) -> None:
    """ValueError where JSON spells half of a surrogate pair, which UTF-8 has no bytes for, or Python read NaN, which
    JSON lacks."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(
            f"{where} holds {half}, one half of a character written as two: write both halves, or leave it out"
        ) from error
    except ValueError as error:
        raise ValueError(f"{where} holds NaN or Infinity, which JSON does not have: write null or a text") from error


def read_text(path: Path) -> str:
    """The text of a file; FileNotFoundError, or ValueError for one that is not UTF-8, names it."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error


def parse_json(text: str, where: str) -> Any:
    """ValueError says `where` the text is no JSON, and why."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; a file with a conversation in each line must be called .jsonl" if "Extra data" in str(error) else ""
        raise ValueError(f"{where} is not JSON: {error}{hint}") from error


def _keys(found: Mapping[str, Any] | Sequence[str]) -> str:
    return f"the keys {', '.join(map(str, found))}" if found else "no keys"


def decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
