"""From the body of a request for text to what the engine is asked, and to the reply, at once or as a stream.

There is no parser of calls for each model: the form of a call (`ToolForm`) is the chat template's or our own, and a
constraint holds the model to it. Where a call is only allowed, text is free until it holds the form's marker; from
there on it is a call. So a name is always one of the functions', and arguments always keep to their schema.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response

from lmworks.generate.constraint import Constraint, FunctionCalls, JsonSchema
from lmworks.serve.asgi import KEY
from lmworks.serve.openai import sampling_fields
from lmworks.serve.openai.errors import CONSTRAINT, ApiError
from lmworks.serve.openai.request_bodies import ChatRequest, SamplingFields
from lmworks.serve.openai.request_fields import (
    ChosenName,
    ChosenTool,
    FunctionDefinition,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredOutputs,
    TextFormat,
)
from lmworks.serve.openai.responses_api.responses_bodies import ChosenFunction, ResponseRequest, SchemaFormat
from lmworks.serve.openai.sse_stream import EventStream, respond
from lmworks.serve.service import Service
from lmworks.tokenizer.tool_calls import Tool, ToolForm

AnswerFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | SchemaFormat
Body = TypeVar("Body", bound=SamplingFields)
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


async def reply(
    request: Request,
    body: Body,
    answer: Callable[[Service, Body, str], Awaitable[Response]],
    events: Callable[[Service, Body, str], AsyncGenerator[bytes, None]],
) -> Response:
    """The answer as the body asks for it: at once, or as events. Both are made of (service, body, client)."""
    # The model's time is shared among the keys of requests, else among what users call themselves.
    client = request.scope.get(KEY) or body.end_user
    request.scope[CONSTRAINT] = _constraining_parameter(body)
    if body.stream:
        return EventStream(events(request.app.state.service, body, client))
    return await respond(request, lambda service: answer(service, body, client))


def _constraining_parameter(body: SamplingFields) -> str | None:
    """The parameter that constrains the answer; None where several together do."""
    text = getattr(body, "text", None)
    given = {name: getattr(body, name, None) for name in ("tools", "response_format", "structured_outputs")}
    names = [name for name, value in {**given, "text.format": text and text.format}.items() if value]
    return names[0] if len(names) == 1 else None


def turn_fields(body: SamplingFields, client: str) -> dict[str, Any]:
    """The fields of a `Turn` that say whose it is; the end user is the unit where `metadata` names none."""
    metadata = body.metadata
    return {
        "client": client,
        "priority": body.priority or 0,
        "conversation": (metadata and metadata.conversation) or "",
        "parent": (metadata and metadata.parent) or None,
        "unit": (metadata and metadata.unit) or body.end_user,
    }


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """The functions that stand in the prompt, and the constraint on the answer."""

    tools: tuple[Tool, ...]
    constraint: Constraint | None

    @property
    def calls(self) -> FunctionCalls | None:
        """The form in which calls are parsed from the answer; None where there can be none."""
        return self.constraint if isinstance(self.constraint, FunctionCalls) else None


def generation_request(
    service: Service,
    body: ChatRequest | ResponseRequest,
    answer_format: AnswerFormat | None,
    further: Mapping[str, bool],
) -> GenerationRequest:
    """The tools and the constraint of a chat or a response.

    answer_format  the form of the answer: `response_format`, or `text.format` of a response.
    further        as `refuse_for_assistant` takes it.

    ApiError for what contradicts itself, and for what the grounded assistant does not do; UnknownModelError.
    """
    if service.models.named(body.model).kind == "assistant":
        sampling_fields.refuse_for_assistant(body, further)
    answer = _answer_constraint(answer_format, body.structured_outputs)
    offered = _offered_tools(body)
    if offered is None:
        return GenerationRequest((), answer)
    if answer is not None and not isinstance(answer, JsonSchema):
        message = "structured_outputs with tools takes json alone: other texts cannot be distinguished from a call"
        raise ApiError(400, message, "structured_outputs", "unsupported_parameter")
    form = service.models.language(body.model).checkpoint.chat.tool_form
    return GenerationRequest(offered.tools, _calls_constraint(offered, form, answer))


@dataclass(frozen=True, slots=True)
class _OfferedTools:
    """The functions that the model may see, and the names of those that it may, or must, call."""

    tools: tuple[Tool, ...]
    callable: tuple[str, ...]
    required: bool
    parallel: bool


def _offered_tools(body: ChatRequest | ResponseRequest) -> _OfferedTools | None:
    """None where no function may be called: then the model sees none. A function that is chosen by name is called once.

    ApiError for functions of one name, for a choice among none, and for a name that none has.
    """
    # The two APIs differ in where a function's definition, and the name of the chosen one, lie.
    functions = [tool.function if isinstance(tool, FunctionTool) else tool for tool in body.tools or ()]
    match body.tool_choice:
        case ChosenTool(function=ChosenName(name=name)) | ChosenFunction(name=name):
            mode, chosen = None, name
        case choice:
            mode, chosen = choice, None
    if not functions:
        if chosen or mode not in (None, "none"):
            raise _invalid("tool_choice needs tools to choose from", "tool_choice")
        if body.parallel_tool_calls is not None:
            raise _invalid("parallel_tool_calls needs tools", "parallel_tool_calls")
        return None
    tools, names = function_tools(functions), tuple(function.name for function in functions)
    if chosen and chosen not in names:
        raise _invalid(f"tool_choice: there is no function {chosen!r}; tools has {', '.join(names)}", "tool_choice")
    if mode == "none":
        return None
    if chosen:
        return _OfferedTools(tools, (chosen,), required=True, parallel=False)
    return _OfferedTools(tools, names, mode == "required", body.parallel_tool_calls is not False)


def function_tools(functions: Sequence[FunctionDefinition]) -> tuple[Tool, ...]:
    """Functions as chat templates take them; ApiError where two have one name."""
    if len({function.name for function in functions}) < len(functions):
        raise _invalid("tools: the names of functions must differ", "tools")
    return tuple(
        {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description or "",
                "parameters": function.parameters or _NO_ARGUMENTS,
            },
        }
        for function in functions
    )


def _calls_constraint(offered: _OfferedTools, form: ToolForm, answer: JsonSchema | None) -> FunctionCalls:
    """The constraint of an answer: text, or JSON of the schema `answer`; then calls, or calls alone."""
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in offered.tools}
    separator, called = form.separator if offered.parallel else None, {n: parameters[n] for n in offered.callable}
    return FunctionCalls.of(form, called, separator=separator, required=offered.required, answer=answer)


def _answer_constraint(answer_format: AnswerFormat | None, outputs: StructuredOutputs | None) -> Constraint | None:
    """The constraint on the text of an answer; None for free text. ApiError for two forms of one answer."""
    constraint = sampling_fields.structured_output_constraint(outputs)
    match answer_format:
        case None | TextFormat():
            return constraint
        case JsonObjectFormat():
            schema = JsonSchema('{"type": "object"}')
        case JsonSchemaFormat(json_schema=named) | (SchemaFormat() as named):
            schema = JsonSchema(json.dumps(named.schema_, ensure_ascii=False))
    if constraint is not None:
        raise _invalid(
            "give structured_outputs or another form of the answer (response_format, text.format), not both",
            "structured_outputs",
        )
    return schema


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(400, message, param, "invalid_value")
