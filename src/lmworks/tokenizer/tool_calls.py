"""Tool calls as a model writes them: as its chat template writes them, or in a form of our own.

Templates that know functions differ in what they put around a call, but most write its name and, after it, its
arguments as JSON. So the form is read off the template: a call of a function that nobody has is rendered, and what
stands before the name, between name and arguments, and after them is the form. A template that knows no
functions, or writes calls in another way, gets `OWN_FORM`: functions, calls and results become text of messages.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmworks.records import Message
from lmworks.tokenizer.jinja_template import ChatTemplateError

Tool = Mapping[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}
Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Tool], bool], str]  # messages, tools, for an answer -> text

_NAME, _ID, _WORDS = "probe_function", "probe0001", "probe words"
_ARGUMENTS = ('{"probe_key": "probe_value"}', '{"probe_key":"probe_value"}')  # JSON as templates space it
_RESULT_START, _RESULT_END = "<tool_response>\n", "\n</tool_response>"


@dataclass(frozen=True, slots=True)
class ToolForm:
    """A call is `before NAME between ARGUMENTS after`, with ARGUMENTS as JSON.

    separator  stands between two calls; None where one answer holds one call.
    native     the chat template describes functions itself, and reads calls and results.
    """

    before: str
    between: str
    after: str
    separator: str | None
    native: bool

    @property
    def marker(self) -> str:
        """Text that holds this begins a call there: the first line of what stands before the name."""
        return self.before.strip().split("\n", 1)[0]

    def write(self, name: str, arguments: str) -> str:
        """A call with its arguments' JSON."""
        return f"{self.before}{name}{self.between}{arguments}{self.after}"


# Models that were taught to call functions have mostly seen this one.
OWN_FORM = ToolForm('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", "\n", native=False)


def read_tool_form(render: Render, cut: Callable[[str], str]) -> ToolForm:
    """The form in which a template has calls, or `OWN_FORM`; `cut` ends a text at its first special token."""
    user = {"role": "user", "content": "question"}
    tool = {"type": "function", "function": {"name": _NAME, "description": "", "parameters": {"type": "object"}}}

    def written(count: int) -> str:
        """The text that `count` calls add to the conversation before them."""
        call = {"id": _ID, "type": "function", "function": {"name": _NAME, "arguments": json.loads(_ARGUMENTS[0])}}
        start = render([user], [tool], True)
        answer = {"role": "assistant", "content": "", "tool_calls": [call] * count}
        whole = render([user, answer], [tool], False)
        added = whole[len(start) :] if whole.startswith(start) and _NAME in start else ""
        return added.removeprefix(opening(start))

    def opening(start: str) -> str:
        """The beginning of every answer, such as an empty thought: no part of a call."""
        plain = render([user, {"role": "assistant", "content": _WORDS}], [tool], False)
        return plain[len(start) :].partition(_WORDS)[0] if plain.startswith(start) and _WORDS in plain else ""

    try:
        form = _read(cut(written(1)))
    except ChatTemplateError:
        return OWN_FORM
    if form is None:
        return OWN_FORM
    try:
        both = cut(written(2))
    except ChatTemplateError:
        return form
    one = form.write(_NAME, next((json_text for json_text in _ARGUMENTS if json_text in both), ""))
    both = both.strip()
    separator = both[len(one.strip()) : -len(one.strip())]
    fits = both == one.strip() + separator + one.strip() and not separator.strip()
    return replace(form, separator=separator) if fits else form


def writes_tool_calls(render: Render) -> bool:
    """True where a template writes functions, calls and their results, in whatever form."""
    user, tool = {"role": "user", "content": "question"}, {"name": _NAME, "description": "", "parameters": {}}
    call = {"id": _ID, "type": "function", "function": {"name": _NAME, "arguments": {"probe_key": "probe_value"}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": _WORDS, "name": _NAME, "tool_call_id": _ID}
    try:
        described = render([user], [{"type": "function", "function": tool}], True)
        called = render([user, answer, result], [], False)
    except ChatTemplateError:
        return False
    return _NAME in described and all(text in called for text in (_NAME, "probe_value", _WORDS))


def is_json(text: str) -> bool:
    """True where a result is a JSON value already, in a form that can be copied into other JSON."""
    return _plain_json(text) == text


def with_plain_json(message: Message) -> Message:
    """A result that is a JSON value as Python writes it; any other message as it is."""
    plain = _plain_json(message.content) if message.role == "tool" else None
    return message if plain is None else replace(message, content=plain)


def _plain_json(text: str) -> str | None:
    try:
        plain = json.dumps(json.loads(text), ensure_ascii=False)
        plain.encode()  # JSON can name half a character, which no text holds
    except (ValueError, RecursionError):
        return None
    return plain


def _read(call: str) -> ToolForm | None:
    """The form of one rendered call; None when there is not one name and, after it, its arguments as JSON."""
    before, found, rest = call.partition(_NAME)
    arguments = next((json_text for json_text in _ARGUMENTS if json_text in rest), "")
    between, _, after = rest.partition(arguments) if arguments else ("", "", "")
    if not found or not arguments or not before.strip() or _NAME in rest or _ID in call:
        return None
    if not between or re.match(r"[\w-]", between):  # nothing would tell where the name ends
        return None
    return ToolForm(before.lstrip(), between, after.rstrip(), None, native=True)


def tools_as_text(messages: Sequence[Message], tools: Sequence[Tool], form: ToolForm) -> list[Message]:
    """The conversation for a template that knows no functions.

    A system message describes them, the assistant's calls are a part of its text, and the user brings the results.
    """
    rows: list[Message] = []
    for message in messages:
        if message.role == "tool":
            result = f"{_RESULT_START}{message.content}{_RESULT_END}"
            if rows and rows[-1].role == "user" and rows[-1].content.endswith(_RESULT_END):
                rows[-1] = replace(rows[-1], content=f"{rows[-1].content}\n{result}")
            else:
                rows.append(Message("user", result))
        elif message.tool_calls:
            calls = [form.write(*_name_and_arguments(call)) for call in message.tool_calls]
            text = "\n".join(filter(None, [message.content, *calls]))
            rows.append(replace(message, content=text, tool_calls=()))
        else:
            rows.append(message)
    if not tools:
        return rows
    described = description(tools, form)
    if rows and rows[0].role == "system":
        return [replace(rows[0], content=f"{rows[0].content}\n\n{described}"), *rows[1:]]
    return [Message("system", described), *rows]


def description(tools: Sequence[Tool], form: ToolForm) -> str:
    """The text that describes functions to a model whose template does not."""
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    return (
        "You can call these functions. Each line is one of them, its arguments described by a JSON schema:\n"
        f"{listed}\n"
        "To call a function, write its name and its arguments as a JSON object, in exactly this form and with nothing "
        f"after it:\n{form.write('NAME', '{...}')}\n"
        f"Its result is given to you between {_RESULT_START.strip()} and {_RESULT_END.strip()}. Call a function only "
        "when the answer needs it; otherwise answer in words."
    )


def _name_and_arguments(call: Mapping[str, Any]) -> tuple[str, str]:
    try:
        return call["function"]["name"], json.dumps(call["function"].get("arguments", {}), ensure_ascii=False)
    except (KeyError, TypeError, AttributeError):
        raise ChatTemplateError(
            f'a tool call must be {{"function": {{"name": ..., "arguments": {{...}}}}}}, got {call!r:.200}'
        ) from None
