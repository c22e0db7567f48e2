"""Answers for as long as the client listens: at once, or as a stream of server-sent events (SSE)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lmworks.serve.events import DeadlineError
from lmworks.serve.openai.errors import ApiError, from_exception
from lmworks.serve.service import Service

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
_GRACE_SECONDS = 1.0  # past its deadline, in which a request says by itself that it was not finished
_FAREWELL_SECONDS = 1.0  # in which a client must take the last event of a stream that is cut off


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class AbandonedError(ApiError):
    """The server stops at once."""

    def __init__(self) -> None:
        super().__init__(503, "the server is shutting down and ended this request", None, "shutting_down")


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event; JSON in ASCII holds no line break and no lone surrogate."""
    return b"data: " + json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n\n"


async def while_connected(
    receive: Receive, abandoned: asyncio.Event, seconds: float, work: Coroutine[Any, Any, T]
) -> T:
    """The result of `work`, which is cancelled, and has ended, when this raises.

    Raises `ClientLeftError`, `AbandonedError`, or DeadlineError when it takes longer than `seconds`: the work may wait
    for a client that does not read. The body of the request must have been read. A task of its own is cancelled once,
    so that its cleaning up may wait. `abandoned` is set by a server that waits no longer.
    """
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(receive))
    ended = asyncio.ensure_future(abandoned.wait())
    try:
        timeout = seconds + _GRACE_SECONDS
        await asyncio.wait((task, disconnected, ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if disconnected.done():
            raise ClientLeftError
        raise AbandonedError() if ended.done() else DeadlineError(f"not finished within {seconds:g} s")
    finally:
        disconnected.cancel()
        ended.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def respond(request: Request, work: Callable[[Service], Awaitable[Response]]) -> Response:
    """The response that `work` makes of the service, or the error it raises; work ends when the client leaves."""

    async def run() -> Response:
        try:
            return await work(request.app.state.service)
        except Exception as error:
            return from_exception(error, request.scope).response()

    try:
        return await while_connected(request.receive, *_limits(request.scope), run())
    except (AbandonedError, DeadlineError) as error:
        return from_exception(error).response()
    except ClientLeftError:
        return Response(status_code=499)  # nobody reads it; access logs know this number from nginx


class EventStream(Response):
    """Sends events as they come.

    The status waits for the first event, so an error before it is an answer of its own; a later one is the last event.
    When the client leaves, `events` is closed. All of it happens in one task.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self.events = events
        self._started = False
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, *_limits(scope), self._run(scope, receive, send))
        except ClientLeftError:
            return
        except (AbandonedError, DeadlineError) as error:
            with contextlib.suppress(TimeoutError):  # a client that does not read does not read this either
                await asyncio.wait_for(self._send_error(error, scope, receive, send), _FAREWELL_SECONDS)

    async def _send_error(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        answer = from_exception(error)
        if self._started:
            await send(_body(event(answer.body)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await answer.response()(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.events) as events:
            try:
                first = await anext(events)
            except Exception as error:
                await from_exception(error, scope).response()(scope, receive, send)
                return
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(_body(first))
            try:
                async for chunk in events:
                    await send(_body(chunk))
            except Exception as error:
                await send(_body(event(from_exception(error, scope).body)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _limits(scope: Scope) -> tuple[asyncio.Event, float]:
    """The two ends of a request from outside: that of the server, and the deadline in seconds."""
    state = scope["app"].state
    return state.abandoned, state.service.config.deadline_seconds


def _body(content: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
