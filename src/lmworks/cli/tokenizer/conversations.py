"""Conversations and functions in files, as people write them and as training data have them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.records import Message

_ROLES = ("system", "user", "assistant", "tool")
_KEYS = ("role", "content", "tool_calls", "name", "tool_call_id")


def read_conversation(path: Path, row: int = 1) -> "tuple[list[Message], list[Mapping[str, Any]]]":
    """The messages, and the functions if the file names any.

    A .jsonl file holds a conversation in each line, of which `row` is shown, counted from 1; another file is one. A
    conversation is a list of messages, or an object with it as `messages` and, perhaps, `tools`. Arguments of calls are
    objects, or their JSON as OpenAI's API has them. ValueError says which message of which row is not so.
    """
    where = str(path)
    found = _read(path) if path.suffix != ".jsonl" else None
    if path.suffix == ".jsonl":
        rows = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
        if not 1 <= row <= len(rows):
            raise ValueError(f"{path} has {len(rows)} conversations: --row must be one of them, got {row}")
        line_number, line = rows[row - 1]
        where = f"{path}, line {line_number}"
        found = _parse(line, where)
    elif row != 1:
        raise ValueError(f"--row chooses a line of a .jsonl file, and {path} is one conversation")
    tools: Any = []
    if isinstance(found, dict):
        if "messages" not in found:
            raise ValueError(f'{where}: an object needs the list of its messages as "messages", got {_keys(found)}')
        found, tools = found["messages"], found.get("tools") or []
    if not isinstance(found, list) or not found:
        raise ValueError(
            f'{where}: a conversation is a list of messages, {{"role": ..., "content": ...}}, and not empty'
        )
    return [_message(each, f"{where}: message {number}") for number, each in enumerate(found, 1)], _tools(tools, where)


def read_tools(path: Path) -> list[Mapping[str, Any]]:
    """A list of functions, or one, with or without the `{"type": "function", "function": ...}` around each."""
    found = _read(path)
    return _tools(found if isinstance(found, list) else [found], str(path))


def _tools(found: Any, where: str) -> list[Mapping[str, Any]]:
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


def _message(found: Any, where: str) -> "Message":
    from lmworks.records import Message

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
        arguments = _parse(arguments, f"{where}: the arguments of {inner['name']}")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: the arguments of {inner['name']} must be an object, got {arguments!r:.100}")
    return {**call, "type": "function", "function": {**inner, "arguments": arguments}}


def _read(path: Path) -> Any:
    return _parse(_text(path), str(path))


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; a file with a conversation in each line must be called .jsonl" if "Extra data" in str(error) else ""
        raise ValueError(f"{where} is not JSON: {error}{hint}") from error


def _keys(found: Mapping[str, Any] | Sequence[str]) -> str:
    return f"the keys {', '.join(map(str, found))}" if found else "no keys"
