"""Conversations and functions in files, as people write them and as training data have them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmworks.data.files import FoundFile, NoSourceError, find_files
from lmworks.records import Conversation, LeftOut, Message, Provenance

_ROLES = ("system", "user", "assistant", "tool")
_KEYS = ("role", "content", "tool_calls", "name", "tool_call_id")
SUFFIXES = (".json", ".jsonl")
CONVERSATIONS = "conversations.jsonl"  # of an artefact: rows that a stage made


def conversation_files(
    sources: Sequence[str], base: Path | None = None, left_out: list[LeftOut] | None = None
) -> list[Path]:
    """The .jsonl and .json files of `sources` (folders, files, globs, relative to `base`), in a fixed order.

    What else the sources hold is added to `left_out`. NoSourceError where there is no such file.
    """
    found = list(find_files(sources, (), base or Path.cwd()))
    files = [each for each in found if isinstance(each, FoundFile)]
    chosen = [each.path for each in files if each.path.suffix in SUFFIXES]
    if left_out is not None:
        left_out += [each for each in found if isinstance(each, LeftOut)]
        left_out += [
            LeftOut(each.uri, f"conversations are {' or '.join(SUFFIXES)} files")
            for each in files
            if each.path.suffix not in SUFFIXES
        ]
    if not chosen:
        raise NoSourceError(f"no {' or '.join(SUFFIXES)} file with conversations in {', '.join(sources)}")
    return chosen


def read_conversations(files: Sequence[Path]) -> Iterator[Conversation]:
    """The conversations of the files, in order: one in each line of a .jsonl file, one in a .json file.

    ValueError says which message of which line is none.
    """
    for path in files:
        if path.suffix != ".jsonl":
            yield parse_conversation(parse_json(read_text(path), str(path)), str(path))
            continue
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield parse_conversation(parse_json(_decoded(line, where), where), where)


def parse_conversation(found: Any, where: str) -> Conversation:
    """A list of messages, or an object with it as `messages` and, perhaps, `tools`.

    Arguments of calls are objects, or their JSON as OpenAI's API has them. `where` is the source of its provenance.
    ValueError says `where` it is not so.
    """
    tools: Any = []
    if isinstance(found, dict):
        if "messages" not in found:
            raise ValueError(f'{where}: an object needs the list of its messages as "messages", got {_keys(found)}')
        found, tools = found["messages"], found.get("tools") or []
    if not isinstance(found, list) or not found:
        raise ValueError(
            f'{where}: a conversation is a list of messages, {{"role": ..., "content": ...}}, and not empty'
        )
    messages = tuple(_message(each, f"{where}: message {number}") for number, each in enumerate(found, 1))
    conversation = Conversation(messages, Provenance(source=where), tuple(parse_tools(tools, where)))
    _check_encodable(conversation, where)
    return conversation


def parse_tools(found: Any, where: str) -> list[Mapping[str, Any]]:
    """A list of functions, or one, with or without the `{"type": "function", "function": ...}` around each."""
    tools: list[Mapping[str, Any]] = []
    for number, tool in enumerate(found if isinstance(found, list) else [found], 1):
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise ValueError(
                f'{where}: function {number} must be {{"name": ..., "description": ..., "parameters": ...}}, or '
                f'that as "function" of {{"type": "function", ...}}, got {tool!r:.100}'
            )
        tools.append({"type": "function", "function": inner})
    return tools


def _message(found: Any, where: str) -> Message:
    if not isinstance(found, dict) or not found.keys() <= set(_KEYS) or found.get("role") not in _ROLES:
        got = f"{_keys(found)} and the role {found.get('role')!r}" if isinstance(found, dict) else f"{found!r:.100}"
        raise ValueError(
            f"{where} must be an object of {', '.join(_KEYS)}, its role one of {', '.join(_ROLES)}; got {got}"
        )
    content = found.get("content")
    if content is None and found["role"] == "assistant" and found.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise ValueError(f"{where}: content must be a text, got {content!r:.100}")
    calls = found.get("tool_calls") or []
    if not isinstance(calls, list):
        raise ValueError(f"{where}: tool_calls must be a list, got {calls!r:.100}")
    called = tuple(_call(call, where) for call in calls)
    return Message(found["role"], content, called, found.get("name"), found.get("tool_call_id"))


def _call(call: Any, where: str) -> Mapping[str, Any]:
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise ValueError(
            f'{where}: a tool call must be {{"function": {{"name": ..., "arguments": ...}}}}, got {call!r:.100}'
        )
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{where}: the arguments of {inner['name']}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: the arguments of {inner['name']} must be an object, got {arguments!r:.100}")
    return {**call, "type": "function", "function": {**inner, "arguments": arguments}}


def _check_encodable(conversation: Conversation, where: str) -> None:
    """JSON may spell half of a surrogate pair, which UTF-8 has no bytes for, and Python reads NaN, which JSON lacks."""
    rows = [(m.role, m.content, m.tool_calls, m.name, m.tool_call_id) for m in conversation.messages]
    try:
        json.dumps([rows, conversation.tools], ensure_ascii=False, allow_nan=False).encode()
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


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
