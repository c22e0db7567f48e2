"""/v1/outcomes: what a unit did after an answer, from the pages and from clients."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from lmworks.serve.openai.errors import ApiError, documented
from lmworks.serve.openai.request_fields import Strict
from lmworks.serve.openai.sse_stream import respond
from lmworks.serve.service import Service

router = APIRouter(tags=["interactions"])
_Short = Annotated[str, Field(max_length=256)]


class OutcomeBody(Strict):
    """`interaction` is the answer that it is about, which also says whose it is; else `unit` does. `time`, in seconds
    since the epoch, is now where it is left out."""

    name: Annotated[str, Field(max_length=64, examples=["click"])]
    value: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    interaction: _Short = ""
    unit: _Short = ""
    time: Annotated[float | None, Field(allow_inf_nan=False, ge=0)] = None


@router.post(
    "/v1/outcomes",
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "whether it is new"},
        **documented(400, 401, 403, 404, 413, 421, 429, 500, 503),
    },
    response_model=None,
)
async def give_outcome(body: OutcomeBody, request: Request) -> Response:
    """Keep an outcome, such as a click, a copy, a return, a task that is done or a rating; the same twice is one."""
    service: Service = request.app.state.service

    async def work() -> Response:
        try:
            new = await service.outcome(body.name, body.value, body.interaction, body.unit, body.time)
        except KeyError:
            raise ApiError(404, f"the log holds no interaction {body.interaction}", "interaction") from None
        except ValueError as error:
            raise ApiError(400, f"this outcome cannot be kept: {error}") from None
        return JSONResponse({"object": "outcome", "new": new})

    return await respond(request, work)
