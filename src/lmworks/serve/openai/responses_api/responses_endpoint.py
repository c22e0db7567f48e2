"""/v1/responses: made, asked for again, taken back."""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from lmworks.records import Feedback, Message
from lmworks.serve.events import Event, Finished, Piece
from lmworks.serve.openai.envelope import content, reply
from lmworks.serve.openai.errors import ApiError, Json, documented, from_exception
from lmworks.serve.openai.responses_api.response_events import ResponseEvents, item_id
from lmworks.serve.openai.responses_api.response_history import DELETED, PREFIX, logged
from lmworks.serve.openai.responses_api.response_objects import (
    DeletedResponse,
    InputItem,
    InputMessage,
    InputText,
    ItemList,
    OutputCall,
    OutputText,
    ResponseObject,
    ResultOfCall,
)
from lmworks.serve.openai.responses_api.response_requests import ResponseRequest
from lmworks.serve.openai.responses_api.response_state import Responding
from lmworks.serve.openai.responses_api.response_store import Kept, KeptResponses
from lmworks.serve.openai.sse_stream import answered
from lmworks.serve.openai.tool_call_parser import CallReader
from lmworks.serve.service import Service


class PageOfItems(BaseModel):
    """What can be said of a page in the query; anything else is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field(default="desc", description="asc: as they were given")
    after: str | None = Field(default=None, max_length=128, description="the id of the item before the page")


def page(messages: Sequence[Message], identifier: str, wanted: PageOfItems) -> ItemList:
    """The items of a conversation that a response answered, named after it; ApiError for an unknown `after`."""
    items = list(_items(messages, f"{identifier}_in"))
    if wanted.order == "desc":
        items.reverse()
    if wanted.after is not None:
        places = [number for number, item in enumerate(items) if item.id == wanted.after]
        if not places:
            raise ApiError(404, f"the response has no input item {wanted.after!r}", "after", "item_not_found")
        items = items[places[0] + 1 :]
    shown = items[: wanted.limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return ItemList(data=shown, first_id=first, last_id=last, has_more=len(shown) < len(items))


def _items(messages: Sequence[Message], identifier: str) -> Iterator[InputItem]:
    """As the model got them: the parts of a content are one text, and "developer" is "system"."""
    number = 0

    def named(kind: str) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"id": item_id(kind, identifier, number - 1), "status": "completed"}

    for message in messages:
        if message.role == "tool":
            yield ResultOfCall(**named("fco"), call_id=message.tool_call_id or "", output=message.content)
        elif message.role != "assistant":
            yield InputMessage(**named("msg"), role=message.role, content=[InputText(text=message.content)])
        elif message.content or not message.tool_calls:
            yield InputMessage(**named("msg"), role="assistant", content=[OutputText(text=message.content)])
        for call in message.tool_calls:
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            yield OutputCall(**named("fc"), call_id=call["id"], name=function["name"], arguments=arguments)


router = APIRouter(tags=["OpenAI"])
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ResponseObject,
        "description": "the response, or with `stream` a sequence of events from `response.created` to "
        "`response.completed` or `response.incomplete`",
        "content": {"text/event-stream": {}},
    },
    **documented(400, 401, 403, 404, 413, 421, 429, 500, 503, 504),
}
_READING = documented(400, 401, 403, 404, 421, 429, 500, 503)
Identifier = Annotated[str, Path(description="the `id` of a response", max_length=64)]


@router.post("/v1/responses", responses=_RESPONSES, response_model=None)
async def responses(body: ResponseRequest, request: Request) -> Response:
    """Answer an input, or go on from an earlier response.

    The model is a language model, or `assistant`, which answers from the documents.
    """
    kept: KeptResponses = request.app.state.responses
    return await reply(request, body, partial(_response, kept), partial(_events, kept))


async def _response(kept: KeptResponses, service: Service, body: ResponseRequest, client: str) -> Response:
    responding = await Responding.begin(service, kept, body, client)
    finished: Finished | None = None
    async with aclosing(service.chat(responding.turn)) as events:
        async for one in events:
            if isinstance(one, Finished):
                finished = one
    assert finished is not None
    whole = responding.whole(finished)
    responding.keep(kept, finished, whole)
    return Json(content(whole))


async def _events(
    kept: KeptResponses, service: Service, body: ResponseRequest, client: str
) -> AsyncGenerator[bytes, None]:
    responding = await Responding.begin(service, kept, body, client)
    told = ResponseEvents(CallReader(responding.calls, responding.turn.id), responding.turn.id, responding.logprobs())
    begun = False
    try:
        async with aclosing(service.chat(responding.turn)) as source:
            async for one in source:
                if not begun:
                    yield told.state("response.created", responding.head)
                    yield told.state("response.in_progress", responding.head)
                    begun = True
                for event in _told(kept, responding, told, one):
                    yield event
    except Exception as error:
        if not begun:  # what is refused at once is an answer of its own, before the stream begins
            raise
        yield told.failure(from_exception(error))


def _told(kept: KeptResponses, responding: Responding, told: ResponseEvents, one: Event) -> Iterator[bytes]:
    """What an event of the service tells the client."""
    if isinstance(one, Piece):
        yield from told.piece(one)
    if isinstance(one, Finished):
        whole = responding.whole(one)
        yield from told.end(whole.status)
        responding.keep(kept, one, whole)
        yield told.state(f"response.{whole.status}", whole)


@router.get("/v1/responses/{identifier}", responses={200: {"model": ResponseObject}, **_READING}, response_model=None)
async def retrieve(identifier: Identifier, request: Request) -> Response:
    """A response again, as it was told; those of which `store` was not false are kept for a while."""
    if request.query_params:
        name = next(iter(request.query_params))
        raise ApiError(400, f"unknown parameter: {name}", name, "unknown_parameter")
    return Response(_kept(request, identifier).body, media_type="application/json")


@router.get(
    "/v1/responses/{identifier}/input_items", responses={200: {"model": ItemList}, **_READING}, response_model=None
)
async def input_items(identifier: Identifier, wanted: Annotated[PageOfItems, Query()], request: Request) -> Response:
    """The conversation that a response answered, without its instructions, as items."""
    found = _kept(request, identifier)
    return Json(content(page(found.messages, identifier.removeprefix(PREFIX), wanted)))


@router.delete(
    "/v1/responses/{identifier}", responses={200: {"model": DeletedResponse}, **_READING}, response_model=None
)
async def delete(identifier: Identifier, request: Request) -> Response:
    """Keep a response no longer: it cannot be asked for, nor gone on from.

    Its interaction stays in the log, with a note, for as long as the log keeps what it holds.
    """
    service: Service = request.app.state.service
    kept: KeptResponses = request.app.state.responses

    async def work() -> Response:
        if kept.get(identifier) is None and await logged(service, identifier) is None:
            raise _unknown(identifier)
        kept.remove(identifier)
        with contextlib.suppress(KeyError):  # the log does not hold it any more
            await service.feedback(Feedback(identifier.removeprefix(PREFIX), time.time(), "note", None, DELETED))
        return Json(content(DeletedResponse(id=identifier)))

    return await answered(request, work)


def _kept(request: Request, identifier: str) -> Kept:
    kept: KeptResponses = request.app.state.responses
    found = kept.get(identifier)
    if found is None:
        raise _unknown(identifier)
    return found


def _unknown(identifier: str) -> ApiError:
    message = (
        f"no response {identifier!r} is kept: the newest are, until the server ends, unless store was false; "
        "/api/interactions/{interaction} has what the log holds"
    )
    return ApiError(404, message, "response_id", "response_not_found")
