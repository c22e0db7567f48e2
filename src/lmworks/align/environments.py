"""Environments: plain functions that answer what a policy wrote, until they are done.

    environment(messages, completion) -> reply messages or (), reward or None, done

`messages` are the conversation before the completion; a reward of None leaves the last completion to a verifier.
`align.online` takes one by its name: a key of `TOOLS`, whose calls the engine's constraint keeps well-formed, or
`module:function`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from lmworks.evaluate.step_metrics import arithmetic
from lmworks.generate.constraint import Constraint, FunctionCalls
from lmworks.generate.rollouts import Environment
from lmworks.records import Message
from lmworks.tokenizer.tool_calls import Tool, ToolForm

# Name → its description for the chat template, and the function that takes its arguments by name.
Tools = Mapping[str, tuple[Tool, Callable[..., str]]]

_EXPRESSION = {"type": "object", "properties": {"expression": {"type": "string", "maxLength": 60}}}
_EXPRESSION |= {"required": ["expression"], "additionalProperties": False}
_PURPOSE = "Exact value of an arithmetic expression with + - * / and brackets."
CALCULATOR: Tool = {
    "type": "function",
    "function": {"name": "calculator", "description": _PURPOSE, "parameters": _EXPRESSION},
}


class Episodes(NamedTuple):
    """An environment, the tools that a prompt describes for it, and the constraint on a completion."""

    environment: Environment
    tools: tuple[Tool, ...] = ()
    constraint: Constraint | None = None


def episodes(name: str, form: Callable[[], ToolForm]) -> Episodes:
    """The episodes of an environment by its name; `form` is asked where tools are. LookupError where there is none."""
    if tools := TOOLS.get(name):
        found = form()
        described = tuple(tool for tool, _ in tools.values())
        return Episodes(tool_environment(tools, found), described, tool_constraint(tools, found))
    module, _, attribute = name.partition(":")
    try:
        return Episodes(getattr(import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(TOOLS)
        raise LookupError(f"no environment {name!r} ({error}): name {known}, or a function as module:name") from None


def calculator(expression: str) -> str:
    """The value of an expression, a fraction to six digits. ValueError where there is none."""
    value = arithmetic(expression)
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


TOOLS: Mapping[str, Tools] = {"calculator": {"calculator": (CALCULATOR, calculator)}}


def tool_constraint(tools: Tools, form: ToolForm, required: bool = False) -> FunctionCalls:
    """The constraint on a completion: words, then at most one call of a tool; `required`: a call alone."""
    parameters = {name: tool["function"]["parameters"] for name, (tool, _) in tools.items()}
    return FunctionCalls.of(form, parameters, required=required)


def tool_environment(tools: Tools, form: ToolForm, most_calls: int = 4) -> Environment:
    """Runs the call in a completion and replies with its result; done without a call, and behind `most_calls`. What a
    tool raises is its result, so that a policy can learn to mend a call."""

    def environment(messages: Sequence[Message], completion: str) -> tuple[tuple[Message, ...], float | None, bool]:
        made = sum(message.role == "tool" for message in messages)
        name, arguments = _call(completion, form)
        if name not in tools or made >= most_calls:
            return (), None, True
        try:
            result = tools[name][1](**arguments)
        except Exception as error:
            result = f"error: {type(error).__name__}: {error}"[:200]
        return (Message("tool", str(result), name=name, tool_call_id=f"call{made:05}"),), None, False

    return environment


def _call(text: str, form: ToolForm) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of the first call; "" where the text holds no whole one."""
    name, _, rest = text.partition(form.opening + form.before)[2].partition(form.between)
    try:
        arguments, _ = json.JSONDecoder().raw_decode(rest.lstrip())
    except ValueError:
        return "", {}
    return (name, arguments) if isinstance(arguments, dict) else ("", {})
