"""Tool calls as a model writes them: as its chat template writes them, or in a form of our own.

Templates that know functions differ in what they put around a call, but most write its name and, after it, its
arguments as JSON. So the form is read off the template: calls of a function that nobody has are rendered, and what
stands before them all, before the name, between name and arguments, and after them is the form. A template that knows
no calls, or writes them in another way, gets `OWN_FORM`: functions, calls and results become text of messages.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from lmworks.records import Message
from lmworks.tokenizer.jinja_template import ChatTemplateError

Tool = Mapping[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}
Render = Callable[[Sequence[Mapping[str, Any]], Sequence[Tool], bool], str]  # messages, tools, for an answer -> text

_NAME, _ID, _WORDS = "probe_function", "probe0001", "probe words"
_ARGUMENTS = ('{"probe_key": "probe_value"}', '{"probe_key":"probe_value"}')  # JSON as templates space it
_QUESTION = {"role": "user", "content": "question"}
_TOOL = {"type": "function", "function": {"name": _NAME, "description": "", "parameters": {"type": "object"}}}
_CALL = {"id": _ID, "type": "function", "function": {"name": _NAME, "arguments": json.loads(_ARGUMENTS[0])}}
_RESULT = {"role": "tool", "content": _WORDS, "name": _NAME, "tool_call_id": _ID}
_RESULT_START, _RESULT_END = "<tool_response>\n", "\n</tool_response>"


@dataclass(frozen=True, slots=True)
class ToolForm:
    """A call is `before NAME between ARGUMENTS after`, with ARGUMENTS as JSON.

    separator  stands between two calls; None where one answer holds one call.
    native     the chat template reads calls and results.
    opening    stands before the first call, and `closing` after the last.
    described  the chat template describes functions, too.
    json_text  it is given arguments as JSON text, not as objects.
    no_words   the content that it is given next to calls where there are no words.
    """

    before: str
    between: str
    after: str
    separator: str | None
    native: bool
    opening: str = ""
    closing: str = ""
    described: bool = True
    json_text: bool = False
    no_words: str | None = ""

    @property
    def marker(self) -> str:
        """Text that holds this begins a call there: the first tag, or else line, of what stands before the name."""
        first = (self.opening + self.before).strip().split("\n", 1)[0]
        tag = re.match(r"<[^<>]+>|\[[A-Z_]+\]", first)
        return tag[0] if tag else first

    def write(self, name: str, arguments: str) -> str:
        """A call with its arguments' JSON."""
        return f"{self.opening}{self.before}{name}{self.between}{arguments}{self.after}{self.closing}"

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A message with calls as the template takes it."""
        calls = [dict(call) for call in row["tool_calls"]]
        for call in calls if self.json_text else ():
            call["function"] = dict(zip(("name", "arguments"), _name_and_arguments(call), strict=True))
        return {**row, "content": row["content"] or self.no_words, "tool_calls": calls}


# Models that were taught to call functions have mostly seen this one.
OWN_FORM = ToolForm('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", "\n", native=False)


def read_tool_form(render: Render, cut: Callable[[str], str]) -> ToolForm:
    """The form in which a template has calls, or `OWN_FORM`; `cut` ends a text where an answer ends."""
    for no_words in ("", None):
        for json_text in (False, True):  # text only where objects are refused, else it is no form of theirs
            form = ToolForm("", "", "", None, native=True, json_text=json_text, no_words=no_words)
            try:
                complete = _read(render, cut, form)
            except ChatTemplateError:
                continue
            if complete is not None:
                return complete
            break
    return OWN_FORM


def writes_tool_calls(render: Render) -> bool:
    """True where a template writes functions, calls and their results, in whatever form."""
    answer = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    try:
        described = render([_QUESTION], [_TOOL], True)
        called = render([_QUESTION, answer, _RESULT], [], False)
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


def _read(render: Render, cut: Callable[[str], str], form: ToolForm) -> ToolForm | None:
    """`form` with its parts; None when a template has not one name for each call and, after it, its arguments."""
    start = render([_QUESTION], [_TOOL], True)
    # Every answer may begin with something, such as an empty thought: no part of a call.
    lead = render([_QUESTION, {"role": "assistant", "content": _WORDS}], [_TOOL], False).partition(_WORDS)[0]

    def answer(count: int) -> dict[str, Any]:
        return form.row({"role": "assistant", "content": "", "tool_calls": [_CALL] * count})

    def written(count: int) -> str:
        """The text that `count` calls add to the conversation before them."""
        whole = render([_QUESTION, answer(count)], [_TOOL], False)
        return next((cut(whole[len(text) :]) for text in (lead, start) if whole.startswith(text)), "")

    single_call = written(1)
    before, _, rest = single_call.partition(_NAME)
    arguments = next((json_text for json_text in _ARGUMENTS if json_text in rest), "")
    between, _, after = rest.partition(arguments) if arguments else ("", "", "")
    if not arguments or not before.strip() or _NAME in rest or _ID in single_call:
        return None
    if not between or re.match(r"[\w-]", between):  # nothing would tell where the name ends
        return None
    described = _NAME in start
    if not described and _WORDS not in render([_QUESTION, answer(1), _RESULT], [], False):
        return None
    single = replace(form, before=before.lstrip(), between=between, after=after.rstrip(), described=described)
    with suppress(ChatTemplateError):
        first, *joints, last = written(3).split(f"{_NAME}{between}{arguments}")
        if first == before and len(set(joints)) == 1 and last.startswith(after):
            return _of_several(single, joints[0], last.rstrip())
    return single


def _of_several(form: ToolForm, joint: str, end: str) -> ToolForm:
    """A form whose calls are joined by `joint`: what it shares with the text before the first call and with the `end`
    after the last is each call's own."""
    before = _shared(form.before[::-1], joint[::-1])[::-1]
    before = before[max(before.find("<"), 0) :]  # no half of a tag
    joint = joint.removesuffix(before)
    after = _shared(joint, end)
    opening, separator, closing = form.before.removesuffix(before), joint.removeprefix(after), end.removeprefix(after)
    several = replace(form, opening=opening, before=before, after=after, separator=separator, closing=closing)
    return several if separator + before else form  # else nothing would tell where the next one begins


def _shared(first: str, second: str) -> str:
    """The beginning that two texts have in common."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(letter for letter, _ in pairs)


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
    return tools_described(rows, tools, form)


def tools_described(messages: Sequence[Message], tools: Sequence[Tool], form: ToolForm) -> list[Message]:
    """The conversation with a system message that describes the functions, where there are any."""
    if not tools:
        return list(messages)
    described = description(tools, form)
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n\n{described}"), *messages[1:]]
    return [Message("system", described), *messages]


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
