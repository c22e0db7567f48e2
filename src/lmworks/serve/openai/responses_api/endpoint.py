"""POST /v1/responses."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lmworks.records import Interaction, Message
from lmworks.serve.events import Finished, Piece
from lmworks.serve.openai import extension, sampling
from lmworks.serve.openai.calls import CallReader, read_all
from lmworks.serve.openai.constraints import constraint_of, schema_of, with_calls
from lmworks.serve.openai.envelope import cached_tokens, client_of, content, finish_reason, fresh_id, turn_fields
from lmworks.serve.openai.errors import Json, documented
from lmworks.serve.openai.responses_api.answers import (
    IncompleteDetails,
    InputTokensDetails,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponseUsage,
    Status,
)
from lmworks.serve.openai.responses_api.events import ResponseEvents, item_id
from lmworks.serve.openai.responses_api.history import (
    INSTRUCTIONS,
    PREFIX,
    Previous,
    instructions_hash,
    messages_of,
    previous,
)
from lmworks.serve.openai.responses_api.requests import ChosenFunction, ResponseRequest
from lmworks.serve.openai.stream import EventStream, answered
from lmworks.serve.openai.tools import Toolbox, toolbox
from lmworks.serve.recording import Turn
from lmworks.serve.service import Service
from lmworks.tokenizer.tool_calls import ToolForm

router = APIRouter(tags=["OpenAI"])
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ResponseObject,
        "description": "the response, or with `stream` a sequence of events from `response.created` to "
        "`response.completed` or `response.incomplete`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **documented(400, 401, 403, 404, 413, 421, 429, 500, 503, 504),
}


@router.post("/v1/responses", responses=_RESPONSES, response_model=None)
async def responses(body: ResponseRequest, request: Request) -> Response:
    """Answer an input, or go on from an earlier response, whose words the log holds.

    The model is a language model, or `assistant`, which answers from the documents.
    """
    service: Service = request.app.state.service
    client = client_of(request, body)
    if body.stream:
        return EventStream(_events(service, body, client))
    return await answered(request, lambda: _response(service, body, client))


async def _response(service: Service, body: ResponseRequest, client: str) -> Response:
    asked = await _Asked.begin(service, body, client)
    finished: Finished | None = None
    async with aclosing(service.chat(asked.turn)) as events:
        async for one in events:
            if isinstance(one, Finished):
                finished = one
    assert finished is not None
    return Json(content(asked.whole(finished)))


async def _events(service: Service, body: ResponseRequest, client: str) -> AsyncGenerator[bytes, None]:
    asked = await _Asked.begin(service, body, client)
    told, reader = ResponseEvents(asked.turn.id), CallReader(asked.form, asked.turn.id)
    begun = False
    async with aclosing(service.chat(asked.turn)) as events:
        async for one in events:
            if not begun:  # what is refused at once is an answer of its own, before the stream begins
                yield told.state("response.created", asked.head)
                yield told.state("response.in_progress", asked.head)
                begun = True
            if isinstance(one, Piece):
                for part in reader.feed(one.text):
                    for event in told.part(part):
                        yield event
            if isinstance(one, Finished):
                whole = asked.whole(one)
                for part in reader.end():
                    for event in told.part(part):
                        yield event
                for event in told.end(whole.status):
                    yield event
                yield told.state(f"response.{whole.status}", whole)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request on its way: its turn, what the response is before it has any output, and the form of calls."""

    turn: Turn
    head: ResponseObject
    form: ToolForm | None

    @classmethod
    async def begin(cls, service: Service, body: ResponseRequest, client: str) -> "_Asked":
        if service.served(body.model).kind == "assistant":
            formed = body.text is not None and body.text.format is not None and body.text.format.type != "text"
            sampling.refuse_for_assistant(body, {"text": formed, "tools": bool(body.tools)})
        box = _toolbox(body)
        form = service.language(body.model).checkpoint.chat.tool_form if box else None
        before = await previous(service, body.previous_response_id)
        turn = _turn(body, client, before, box, form)
        service.check(turn)
        return cls(turn, _head(body, turn), form)

    def whole(self, finished: Finished) -> ResponseObject:
        """The response with its output."""
        interaction = finished.interaction
        status: Status = "incomplete" if finish_reason(finished) == "length" else "completed"
        return self.head.model_copy(
            update={
                "status": status,
                "completed_at": time.time(),
                "incomplete_details": IncompleteDetails() if status == "incomplete" else None,
                "output": output_of(interaction, self.form, status),
                "usage": _usage(interaction, cached_tokens(finished)),
                "lmworks": extension.of_finished(finished),
            }
        )


def output_of(interaction: Interaction, form: ToolForm | None, status: Status) -> list[OutputItem]:
    """The items of a response in the order of its text; the last one is incomplete where the response is."""
    words, calls = read_all(form, interaction.id, interaction.response)
    items: list[OutputItem] = []
    if words or not calls:
        text = [OutputText(text=words)]
        items.append(OutputMessage(id=item_id("msg", interaction.id, 0), status="completed", content=text))
    for call in calls:
        identifier = item_id("fc", interaction.id, len(items))
        items.append(
            OutputCall(id=identifier, call_id=call.id, name=call.name, arguments=call.arguments, status="completed")
        )
    items[-1].status = status
    return items


def _toolbox(body: ResponseRequest) -> Toolbox | None:
    named = body.tool_choice.name if isinstance(body.tool_choice, ChosenFunction) else None
    mode = None if isinstance(body.tool_choice, ChosenFunction) else body.tool_choice
    return toolbox(body.tools or (), mode, named, body.parallel_tool_calls)


def _turn(body: ResponseRequest, client: str, before: Previous, box: Toolbox | None, form: ToolForm | None) -> Turn:
    messages = messages_of(body.input, before.messages)
    if body.instructions:
        messages = (Message("system", body.instructions), *messages)
    answer = schema_of(body.text.format if body.text else None) or constraint_of(body.structured_outputs)
    tokens = body.max_output_tokens or sampling.CHAT_TOKENS
    fields = turn_fields(body, client)
    return Turn(
        model=body.model,
        messages=messages,
        tools=box.tools if box else (),
        sampling=sampling.of_drawn(body, tokens, with_calls(answer, box, form)),
        id=fresh_id(),
        **{
            **fields,
            "conversation": fields["conversation"] or before.conversation,
            "parent": fields["parent"] or before.interaction or None,
        },
        lineage={INSTRUCTIONS: instructions_hash(body.instructions)} if body.instructions else {},
    )


def _head(body: ResponseRequest, turn: Turn) -> ResponseObject:
    """What the request said, as the answer repeats it."""
    choice = body.tool_choice
    return ResponseObject(
        id=f"{PREFIX}{turn.id}",
        created_at=time.time(),
        status="in_progress",
        model=body.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        max_output_tokens=body.max_output_tokens,
        temperature=turn.sampling.temperature,
        top_p=turn.sampling.top_p,
        text={"format": body.text.format.model_dump(by_alias=True) if body.text and body.text.format else _PLAIN},
        tools=[tool.model_dump() for tool in body.tools or ()],
        tool_choice=choice.model_dump() if isinstance(choice, ChosenFunction) else choice or "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        metadata=body.metadata.model_dump(exclude_none=True) if body.metadata else {},
        store=body.store is not False,
        user=body.user,
    )


_PLAIN = {"type": "text"}


def _usage(interaction: Interaction, cached: int) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=interaction.input_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=interaction.output_tokens,
        total_tokens=interaction.input_tokens + interaction.output_tokens,
    )
