"""/api/interactions and /v1/outcomes: what the log holds of an interaction, what people say about it and do then."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import Field, StringConstraints
from starlette.responses import JSONResponse, Response

from lmworks.config import to_mapping
from lmworks.generate.protocol import ParameterError
from lmworks.records import Feedback
from lmworks.serve.openai.errors import ApiError, LargeJson, documented
from lmworks.serve.openai.request_fields import Strict, Text
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.service import Service

router = APIRouter(tags=["interactions"])
_LONGEST = 10_000
Identifier = Annotated[str, Path(description="the `interaction` in an answer's `lmworks`", max_length=64)]
_Short = Annotated[str, Field(max_length=256)]
_ERRORS = documented(400, 401, 403, 404, 413, 421, 429, 500, 503)


class Thumbs(Strict):
    """null takes an earlier thumb back."""

    value: Literal["up", "down"] | None
    reason: Annotated[Text, StringConstraints(max_length=_LONGEST)] = ""


class Note(Strict):
    text: Annotated[Text, StringConstraints(max_length=_LONGEST, pattern=r"\S")]
    author: Annotated[Text, StringConstraints(max_length=200)] = ""


class OutcomeBody(Strict):
    """`interaction` is the answer that it is about, which also says whose it is; else `unit` does. `time`, in seconds
    since the epoch, is now where it is left out."""

    name: Annotated[str, Field(max_length=64, examples=["click"])]
    value: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    interaction: _Short = ""
    unit: _Short = ""
    time: Annotated[float | None, Field(allow_inf_nan=False, ge=0)] = None


@router.get(
    "/api/interactions/{identifier}",
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "the whole event"},
        **_ERRORS,
    },
)
async def get_interaction(identifier: Identifier, request: Request) -> Response:
    """An interaction with its feedback, as `lmworks.records.Interaction` has it."""

    async def work(service: Service) -> Response:
        try:
            interaction = await service.read_log(lambda reader: reader.get(identifier))
        except KeyError:
            raise _unknown(identifier) from None
        return await asyncio.to_thread(lambda: LargeJson(to_mapping(interaction)))

    return await respond(request, work)


@router.post("/api/interactions/{identifier}/feedback", status_code=204, responses=_ERRORS, response_class=Response)
async def give_feedback(identifier: Identifier, body: Thumbs, request: Request) -> Response:
    """A thumb up or down, with a reason; the newest counts."""
    return await _attach(request, Feedback(identifier, time.time(), "thumbs", body.value, body.reason))


@router.post("/api/interactions/{identifier}/notes", status_code=204, responses=_ERRORS, response_class=Response)
async def add_note(identifier: Identifier, body: Note, request: Request) -> Response:
    """A note to an interaction."""
    return await _attach(request, Feedback(identifier, time.time(), "note", None, body.text, body.author))


async def _attach(request: Request, feedback: Feedback) -> Response:

    async def work(service: Service) -> Response:
        try:
            await service.feedback(feedback)
        except KeyError:
            raise _unknown(feedback.interaction) from None
        return Response(status_code=204)

    return await respond(request, work)


@router.post(
    "/v1/outcomes",
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "whether it is new"},
        **_ERRORS,
    },
)
async def give_outcome(body: OutcomeBody, request: Request) -> Response:
    """Keep an outcome, such as a click, a copy, a return, a task that is done or a rating; the same twice is one."""

    async def work(service: Service) -> Response:
        try:
            new = await service.outcome(body.name, body.value, body.interaction, body.unit, body.time)
        except KeyError:
            raise _unknown(body.interaction, "interaction") from None
        except ParameterError as error:
            raise ParameterError(error.parameter, f"this outcome cannot be kept: {error}") from None
        return JSONResponse({"object": "outcome", "new": new})

    return await respond(request, work)


def _unknown(identifier: str, param: str | None = None) -> ApiError:
    return ApiError(404, f"the log holds no interaction {identifier}", param, "interaction_not_found")
