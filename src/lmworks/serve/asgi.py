"""The little that the middlewares share. All of them are plain ASGI: Starlette's base class would hide disconnects."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from lmworks.serve.openai.errors import ApiError

OPERATIONS = ("/health", "/ready", "/metrics")


def header(scope: Scope, name: str) -> str | None:
    return Headers(scope=scope).get(name)


def is_api(path: str) -> bool:
    """Whether programs speak to this path; the others are pages for people."""
    return path.startswith(("/v1/", "/api/")) or path in (*OPERATIONS, "/openapi.json")


def client_address(scope: Scope) -> str:
    """As the socket tells it: headers that a proxy, or anybody, may set are not believed."""
    client = scope.get("client")
    return client[0] if client else ""


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    await error.response()(scope, receive, send)
