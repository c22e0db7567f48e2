"""/v1/responses: create, retrieve, list the input of, and delete a response."""

import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from lmworks.generate.constraint import FunctionCalls
from lmworks.generate.protocol import Token
from lmworks.records import Feedback, Interaction, Message
from lmworks.serve.events import Event, Finished, Piece
from lmworks.serve.interaction_record import Turn
from lmworks.serve.openai import sampling_fields
from lmworks.serve.openai.errors import ApiError, Json, answers, documented, from_exception
from lmworks.serve.openai.generation_request import GenerationRequest, generation_request, reply, turn_fields
from lmworks.serve.openai.logprobs import TokenBytes
from lmworks.serve.openai.response_bodies import (
    answer_length,
    as_json,
    body_fields,
    cached_tokens,
    finish_reason,
    fresh_id,
    lmworks_field,
    whole_answer,
)
from lmworks.serve.openai.responses_api.response_events import MessageLogprobs, ResponseEvents
from lmworks.serve.openai.responses_api.response_history import (
    DELETED,
    PREFIX,
    STORED,
    ItemPage,
    Previous,
    ResponseStore,
    StoredResponse,
    answer_message,
    input_messages,
    input_page,
    instructions_hash,
    logged_response,
    previous,
)
from lmworks.serve.openai.responses_api.responses_bodies import (
    ChosenFunction,
    DeletedResponse,
    IncompleteDetails,
    InputTokensDetails,
    ItemList,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponseRequest,
    ResponseUsage,
    Status,
    item_id,
)
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.openai.tool_call_parser import ParsedCompletion, ToolCallParser, parse_completion
from lmworks.serve.service import Service
from lmworks.serve.thread_offload import run_off_loop

_PLAIN = {"type": "text"}

router = APIRouter(tags=["OpenAI"])
_RESPONSES = answers(ResponseObject, "events from `response.created` to `response.completed` or `response.incomplete`")
_READING = documented(400, 401, 403, 404, 421, 429, 500, 503)
Identifier = Annotated[str, Path(description="the `id` of a response", max_length=64)]


@router.post("/v1/responses", responses=_RESPONSES)
async def responses(body: ResponseRequest, request: Request) -> Response:
    """Answer an input, or continue an earlier response.

    The model is a language model, or `assistant`, which answers from the documents.
    """
    store: ResponseStore = request.app.state.responses
    return await reply(request, body, partial(_response, store), partial(_events, store))


async def _response(store: ResponseStore, service: Service, body: ResponseRequest, client: str) -> Response:
    state = await ResponseState.begin(service, store, body, client)
    finished: Finished | None = None
    async with aclosing(service.chat(state.turn)) as events:
        async for event in events:
            if isinstance(event, Finished):
                finished = event
    assert finished is not None
    answer = await whole_answer([finished], lambda: state.whole(finished))
    state.store(store, finished, bytes(answer.body))
    return answer


async def _events(
    store: ResponseStore, service: Service, body: ResponseRequest, client: str
) -> AsyncGenerator[bytes, None]:
    state = await ResponseState.begin(service, store, body, client)
    events = ResponseEvents(ToolCallParser(state.calls, state.turn.id), state.turn.id, state.logprobs())
    begun = False
    try:
        async with aclosing(service.chat(state.turn)) as source:
            async for event in source:
                if not begun:
                    yield events.state("response.created", state.head)
                    yield events.state("response.in_progress", state.head)
                    begun = True
                length = answer_length([event]) if isinstance(event, Finished) else 0
                for data in await run_off_loop(length, lambda e=event: list(_next_events(store, state, events, e))):
                    yield data
    except Exception as error:
        if not begun:  # what is refused at once is an answer of its own, before the stream begins
            raise
        yield events.failure(from_exception(error))


def _next_events(store: ResponseStore, state: "ResponseState", events: ResponseEvents, event: Event) -> Iterator[bytes]:
    """The client's events for an event of the service."""
    if isinstance(event, Piece):
        yield from events.piece(event)
    if isinstance(event, Finished):
        response = state.whole(event)
        yield from events.end(response.status)
        state.store(store, event, bytes(as_json(response, large=True).body) if state.head.store else b"")
        yield events.state(f"response.{response.status}", response)


@router.get("/v1/responses/{identifier}", responses={200: {"model": ResponseObject}, **_READING})
async def retrieve(identifier: Identifier, request: Request) -> Response:
    """A response again, as it was sent; those of which `store` was not false are kept for a while."""
    if request.query_params:
        name = next(iter(request.query_params))
        raise ApiError(400, f"unknown parameter: {name}", name, "unknown_parameter")
    return Response(_stored(request, identifier).body, media_type="application/json")


@router.get("/v1/responses/{identifier}/input_items", responses={200: {"model": ItemList}, **_READING})
async def input_items(identifier: Identifier, page: Annotated[ItemPage, Query()], request: Request) -> Response:
    """The conversation that a response answered, without its instructions, as items."""
    response = _stored(request, identifier)
    return Json(body_fields(input_page(response.messages, identifier.removeprefix(PREFIX), page)))


@router.delete("/v1/responses/{identifier}", responses={200: {"model": DeletedResponse}, **_READING})
async def delete(identifier: Identifier, request: Request) -> Response:
    """Delete a response: it can be neither retrieved nor continued.

    Its interaction stays in the log, with a note, for as long as the log keeps what it holds.
    """
    store: ResponseStore = request.app.state.responses

    async def work(service: Service) -> Response:
        if store.get(identifier) is None and await logged_response(service, identifier) is None:
            raise _unknown(identifier)
        store.remove(identifier)
        with contextlib.suppress(KeyError):  # the log does not hold it any more
            await service.feedback(Feedback(identifier.removeprefix(PREFIX), time.time(), "note", None, DELETED))
        return Json(body_fields(DeletedResponse(id=identifier)))

    return await respond(request, work)


def _stored(request: Request, identifier: str) -> StoredResponse:
    store: ResponseStore = request.app.state.responses
    response = store.get(identifier)
    if response is None:
        raise _unknown(identifier)
    return response


def _unknown(identifier: str) -> ApiError:
    message = (
        f"no response {identifier!r} is kept: the newest are, until the server ends, unless store was false; "
        "/api/interactions/{interaction} has what the log holds"
    )
    return ApiError(404, message, "response_id", "response_not_found")


# ---------------------------------------------------------------------------------------------------------------------
# One response


@dataclass(frozen=True, slots=True)
class ResponseState:
    """One response in progress. `messages` is its conversation without the instructions, `head` the response so far.

    `names` is None where the answer has no log-probabilities.
    """

    turn: Turn
    head: ResponseObject
    calls: FunctionCalls | None
    messages: tuple[Message, ...]
    names: TokenBytes | None

    @classmethod
    async def begin(cls, service: Service, store: ResponseStore, body: ResponseRequest, client: str) -> "ResponseState":
        format_ = body.text.format if body.text else None
        formed = format_ is not None and format_.type != "text"
        further = {"text": formed, "tools": bool(body.tools), "include": bool(body.include)}
        generation = generation_request(service, body, format_, further)
        before = await previous(service, store, body.previous_response_id)
        messages = input_messages(body.input, before.messages)
        turn = _turn(body, client, before, messages, generation)
        service.models.check(turn)
        names = TokenBytes(service.models.language(body.model).checkpoint.required_tokenizer) if body.include else None
        return cls(turn, _head(body, turn), generation.calls, messages, names)

    def logprobs(self) -> MessageLogprobs | None:
        return None if self.names is None else MessageLogprobs(self.names, self.turn.sampling.alternatives)

    def whole(self, finished: Finished) -> ResponseObject:
        """The response with its output."""
        interaction = finished.interaction
        status: Status = "incomplete" if finish_reason(finished) == "length" else "completed"
        tokens = (finished.completion and finished.completion.tokens) or ()
        return self.head.model_copy(
            update={
                "status": status,
                "completed_at": time.time(),
                "incomplete_details": IncompleteDetails() if status == "incomplete" else None,
                "output": _output(self.parsed(finished), interaction.id, status, self.logprobs(), tokens),
                "usage": _usage(interaction, cached_tokens(finished)),
                "lmworks": lmworks_field(finished),
            }
        )

    def parsed(self, finished: Finished) -> ParsedCompletion:
        return parse_completion(self.calls, finished.interaction.id, finished.interaction.response)

    def store(self, store: ResponseStore, finished: Finished, body: bytes) -> None:
        """Store the response, unless its client does not want that."""
        if self.head.store:
            head, answer = self.head, answer_message(self.parsed(finished))
            store.add(StoredResponse(head.id, body, self.messages, answer, self.turn.conversation, head.created_at))


def _output(
    parsed: ParsedCompletion, identifier: str, status: Status, logprobs: MessageLogprobs | None, tokens: Iterable[Token]
) -> list[OutputItem]:
    """The items of a response in the order of its text; the last one is incomplete where the response is."""
    items: list[OutputItem] = []
    if parsed.text or not parsed.calls:
        text = OutputText(text=parsed.text)
        if logprobs is not None:
            logprobs.take(tokens)
            text.logprobs = logprobs.until(len(parsed.text))
            if not parsed.calls and not parsed.cut:
                text.logprobs += logprobs.rest()
        items.append(OutputMessage(id=item_id("msg", identifier, 0), status="completed", content=[text]))
    for call in parsed.calls:
        name = item_id("fc", identifier, len(items))
        items.append(OutputCall(id=name, call_id=call.id, name=call.name, arguments=call.arguments, status="completed"))
    items[-1].status = status
    return items


def _turn(
    body: ResponseRequest, client: str, before: Previous, messages: tuple[Message, ...], generation: GenerationRequest
) -> Turn:
    instructions = (Message("system", body.instructions),) if body.instructions else ()
    fields = turn_fields(body, client)
    return Turn(
        model=body.model,
        messages=(*instructions, *messages),
        tools=generation.tools,
        sampling=sampling_fields.response_parameters(body, generation.constraint),
        id=fresh_id(),
        **{
            **fields,
            "conversation": fields["conversation"] or before.conversation,
            "parent": fields["parent"] or before.interaction or None,
        },
        lineage={} if body.store is False else {STORED: instructions_hash(body.instructions)},
    )


def _head(body: ResponseRequest, turn: Turn) -> ResponseObject:
    """The response before it has any output: the settings of the request."""
    choice = body.tool_choice
    text: dict[str, Any] = body.text.format.model_dump(by_alias=True) if body.text and body.text.format else _PLAIN
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
        text={"format": text},
        tools=[tool.model_dump() for tool in body.tools or ()],
        tool_choice=choice.model_dump() if isinstance(choice, ChosenFunction) else choice or "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        metadata=body.metadata.model_dump(exclude_none=True) if body.metadata else {},
        store=body.store is not False,
        top_logprobs=body.top_logprobs or 0,
        user=body.user,
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
    )


def _usage(interaction: Interaction, cached: int) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=interaction.input_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=interaction.output_tokens,
        total_tokens=interaction.input_tokens + interaction.output_tokens,
    )
