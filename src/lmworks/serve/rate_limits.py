"""Limits for each client: requests per minute, and bytes of a request."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmworks.serve.asgi import KEY, TOKENS, HttpMiddleware, client_address, header, refuse
from lmworks.serve.openai.errors import ApiError

_MAXIMUM_CLIENTS = 10_000
_LINGER_SECONDS = 2.0  # for the next part of a body that was refused


class TokenBuckets:
    """A bucket for each client: it holds a minute's worth of requests and refills evenly.

    Buckets that were not used for longest are forgotten beyond `_MAXIMUM_CLIENTS`; a forgotten one is a full one.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._rate, self._clock = float(per_minute), per_minute / 60, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, when)

    def take(self, client: str) -> float:
        """Seconds until the next request may come; 0 takes a token and lets this one through."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - then) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[client] = (tokens - (wait == 0), now)
        while len(self._buckets) > _MAXIMUM_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


def too_many(limit: str, wait: float) -> ApiError:
    """The refusal of what is beyond a limit; the next may come in `wait` seconds."""
    retry = {"Retry-After": str(max(1, round(wait + 0.5)))}
    return ApiError(429, f"more than {limit}; the next may come in {wait:.1f} s", None, "rate_limit_exceeded", retry)


class RateLimit(HttpMiddleware):
    """Middleware: the API and questions of the chat page, by key, or by address where no keys are asked for."""

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        super().__init__(app)
        self._per_minute = per_minute
        self._buckets = TokenBuckets(per_minute)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(("/v1/", "/api/")) or path in TOKENS or (scope["method"] == "POST" and path == "/chat"):
            client = f"key {scope[KEY]}" if KEY in scope else f"address {client_address(scope)}"
            wait = self._buckets.take(client)
            if wait > 0:
                await refuse(too_many(f"{self._per_minute} requests a minute", wait), scope, receive, send)
                return
        await self._app(scope, receive, send)


class _TooLargeError(Exception):
    """Ends the reading of a body; what the application makes of it is not sent."""


class BodyLimit(HttpMiddleware):
    """Middleware: refuses by Content-Length before anything is read, and counts what comes without one."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        super().__init__(app)
        self._max = max_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = header(scope, "content-length")
        if declared is not None and declared.isdecimal() and int(declared[:20]) > self._max:
            await self._refuse(scope, receive, send)
            return
        started, received = False, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max:
                raise _TooLargeError
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if received <= self._max:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:  # what became of a body that was cut off here tells nothing: the refusal below does
            if received <= self._max:
                raise
        if received > self._max and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer at once, and its end when the body has come, which is dropped: a connection that is closed while
        the client still sends loses the answer."""

        async def lingering(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                while (await asyncio.wait_for(receive(), _LINGER_SECONDS)).get("more_body"):
                    pass
            await send({"type": "http.response.body"})

        message = f"the body is larger than the {self._max} bytes that this server takes (serve.max_body_bytes)"
        headers = {"Connection": "close"}  # what is still on its way then is not read
        await refuse(ApiError(413, message, None, "request_too_large", headers), scope, receive, lingering)
