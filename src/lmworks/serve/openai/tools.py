"""Functions in a request: what the model is told of, which calls it may make, and what an answer with calls must be.

There is no parser for each model: the form of a call (`ToolForm`) is the chat template's or our own, and a constraint
holds the model to it. Where a call is only allowed, text is free until it holds the form's marker; from there on it is
a call. So a name is always one of the functions', and arguments always keep to their schema.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmworks.generate.constraint import FunctionCalls, JsonSchema
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.tool_fields import FunctionDefinition, ToolMode
from lmworks.tokenizer.tool_calls import Tool, ToolForm

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The functions that the model is told of, and the names of those that it may, or must, call."""

    tools: tuple[Tool, ...]
    callable: tuple[str, ...]
    required: bool
    parallel: bool


def toolbox(
    functions: Sequence[FunctionDefinition], mode: ToolMode | None, named: str | None, parallel: bool | None
) -> Toolbox | None:
    """None where no function may be called: the model is then told of none. `named` is the one that is called, once.

    ApiError for functions of one name, for a choice among none, and for a name that none has.
    """
    if not functions:
        if named or mode not in (None, "none"):
            raise _refused("tool_choice needs tools to choose from", "tool_choice")
        if parallel is not None:
            raise _refused("parallel_tool_calls needs tools", "parallel_tool_calls")
        return None
    names = tuple(function.name for function in functions)
    if len(set(names)) < len(names):
        raise _refused("tools: the names of functions must differ", "tools")
    if named and named not in names:
        raise _refused(f"tool_choice: there is no function {named!r}; tools has {', '.join(names)}", "tool_choice")
    if mode == "none":
        return None
    tools = tuple({"type": "function", "function": _told(function)} for function in functions)
    if named:
        return Toolbox(tools, (named,), required=True, parallel=False)
    return Toolbox(tools, names, mode == "required", parallel is not False)


def calls_of(box: Toolbox, form: ToolForm, answer: JsonSchema | None) -> FunctionCalls:
    """The constraint of an answer: words, or JSON of the schema `answer`; then calls, or calls alone."""
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in box.tools}
    return FunctionCalls(
        before=form.before,
        between=form.between,
        after=form.after,
        marker=form.marker,
        functions=tuple((name, json.dumps(parameters[name], ensure_ascii=False)) for name in box.callable),
        separator=form.separator if box.parallel else None,
        required=box.required,
        answer=answer,
    )


def _told(function: FunctionDefinition) -> dict[str, Any]:
    """As chat templates take it."""
    return {
        "name": function.name,
        "description": function.description or "",
        "parameters": function.parameters or _NO_ARGUMENTS,
    }


def _refused(message: str, param: str) -> ApiError:
    return ApiError(400, message, param, "invalid_value")
