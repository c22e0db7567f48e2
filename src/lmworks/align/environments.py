"""Environments: plain functions that answer what a policy wrote, until they are done.

    environment(messages, completion, item) -> reply messages or (), reward or None, done

`messages` are the conversation before the completion, `item` has the row's answer and further columns (`items_of`); a
reward of None leaves the last completion to a verifier. `align.online` takes one by its name: a key of `TOOLS`, whose
calls the engine's constraint keeps well-formed, or `module:name` of a function, of `Tools` or of `Episodes`. What a
user wrote runs in a process of its own, as verifiers do.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from lmworks.align.rewards import CLOCK, SECONDS, START_SECONDS
from lmworks.evaluate.metric import Item
from lmworks.evaluate.step_metrics import arithmetic
from lmworks.generate.constraint import Constraint, FunctionCalls
from lmworks.generate.rollouts import Environment
from lmworks.records import Message
from lmworks.sandbox import Sandbox, SandboxConfig, SandboxError
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
    environment = form() if isinstance(_named(name), Mapping) else None
    made = _made(name, environment)
    return made if name in TOOLS else made._replace(environment=limited_environment(name, environment))


def limited_environment(name: str, form: ToolForm | None, seconds: float = SECONDS) -> Environment:
    """The environment `module:name` in a process of its own, with seconds of the processor for each answer. Where
    it raises or hangs, the episode ends and its reward is NaN: it is counted as unscored."""
    sandbox = Sandbox(SandboxConfig(seconds), "the environment", CLOCK)

    def environment(
        messages: Sequence[Message], completion: str, item: Item | None
    ) -> tuple[Sequence[Message], float | None, bool]:
        try:
            if not sandbox.alive:
                sandbox.call(_prepare, (name, form), START_SECONDS)
            return sandbox.call(_answer, (name, form, tuple(messages), completion, item))
        except SandboxError:
            return (), math.nan, True

    return environment


def _named(name: str) -> Environment | Episodes | Tools:
    if name in TOOLS:
        return TOOLS[name]
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(TOOLS)
        raise LookupError(f"no environment {name!r} ({error}): name {known}, or your own as module:name") from None


@cache
def _made(name: str, form: ToolForm | None) -> Episodes:
    listed = _named(name)
    if isinstance(listed, Episodes):
        return listed
    if not isinstance(listed, Mapping):
        return Episodes(listed)
    assert form is not None
    described = tuple(tool for tool, _ in listed.values())
    return Episodes(tool_environment(listed, form), described, tool_constraint(listed, form))


def _prepare(asked: tuple[str, ToolForm | None]) -> None:
    _made(*asked)


def _answer(
    asked: tuple[str, ToolForm | None, Sequence[Message], str, Item | None],
) -> tuple[Sequence[Message], float | None, bool]:
    name, form, messages, completion, item = asked
    return _made(name, form).environment(messages, completion, item)


def calculator(expression: str) -> str:
    """The value of an expression, a fraction to six digits. ValueError where there is none."""
    value = arithmetic(expression)
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


TOOLS: Mapping[str, Tools] = {"calculator": {"calculator": (CALCULATOR, calculator)}}


def tool_constraint(tools: Tools, form: ToolForm) -> FunctionCalls:
    """The constraint on a completion: words, then at most one call of a tool."""
    parameters = {name: tool["function"]["parameters"] for name, (tool, _) in tools.items()}
    return FunctionCalls.of(form, parameters)


def tool_environment(tools: Tools, form: ToolForm) -> Environment:
    """Runs the call in a completion and replies with its result; done without a call. What a tool raises is its
    result, so that a policy can learn to mend a call."""

    def environment(
        messages: Sequence[Message], completion: str, _: object
    ) -> tuple[tuple[Message, ...], float | None, bool]:
        made = sum(message.role == "tool" for message in messages)
        name, arguments = _call(completion, form)
        if name not in tools:
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
