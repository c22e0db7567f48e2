"""Helpers of the middlewares. All of them are plain ASGI: Starlette's base class would hide disconnects."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmworks.serve.openai.errors import ApiError

OPERATIONS = ("/health", "/ready", "/metrics")
KEY = "lmworks.key"  # where the scope names the API key that a request was made with
TOKENS = ("/tokenize", "/detokenize")  # outside /v1, since that is where clients of vLLM look for them


def header(scope: Scope, name: str) -> str | None:
    return Headers(scope=scope).get(name)


def is_api(path: str) -> bool:
    """True for a path that programs speak to; the others are pages for people."""
    return path.startswith(("/v1/", "/api/")) or path in (*OPERATIONS, *TOKENS, "/openapi.json")


def client_address(scope: Scope) -> str:
    """The address of the socket: headers that a proxy, or anybody, may set are not believed."""
    client = scope.get("client")
    return client[0] if client else ""


class HttpMiddleware:
    """Hands HTTP requests to `handle`, and everything else (lifespan) to the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.handle if scope["type"] == "http" else self._app)(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


class HeadAsGet(HttpMiddleware):
    """Middleware, innermost: HEAD of a page or an operation is answered like GET, without the body.

    Static files answer HEAD themselves, and the API has no use for it.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD" or not _answers_head(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy, because the server reads the method of its own scope to know that no body follows.
        inner = {**scope, "method": "GET"}
        try:
            await self._app(inner, receive, bodiless)
        finally:
            scope.update({name: inner[name] for name in ("route",) if name in inner})


def _answers_head(path: str) -> bool:
    return path in OPERATIONS or not (is_api(path) or path.startswith("/static/"))


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await error.response()(scope, receive, send)
