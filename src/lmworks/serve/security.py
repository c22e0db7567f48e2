"""Protection of a server on a person's own machine from the other pages in that person's browser.

A page of another site can send requests here. It must not reach anything: the Host header is checked, because a name
of the attacker's may be made to resolve to this machine (DNS rebinding); requests that change something must come from
this site; answers carry no CORS headers, so that other sites cannot read them; and the pages run no script but ours.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmworks.serve.asgi import OPERATIONS, HttpMiddleware, client_address, header, refuse
from lmworks.serve.config import ServeConfig
from lmworks.serve.listener import is_loopback
from lmworks.serve.openai.errors import ApiError

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would hide the Origin of our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_WILDCARDS = ("0.0.0.0", "::", "")


class Security(HttpMiddleware):
    """Middleware, to stand outside of all that answer."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        super().__init__(app)
        self._hosts = {"localhost", "127.0.0.1", "::1", config.host.lower(), *(h.lower() for h in config.allowed_hosts)}
        self._any_address = config.host in _WILDCARDS

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)  # a figure brings a policy of its own
                static = scope["path"].startswith("/static/") and message["status"] in (200, 304)
                if static:
                    # The address of a static file holds a hash of its content, where a page wrote it.
                    versioned = scope["query_string"].startswith(b"v=")
                    headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
                elif "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        # A request whose end a proxy may see elsewhere than we do; what follows it may be smuggled (RFC 9112, 6.1).
        ended_otherwise = header(scope, "content-length") is not None or scope["http_version"] == "1.0"
        if header(scope, "transfer-encoding") is not None and ended_otherwise:
            message = "Transfer-Encoding stands next to a Content-Length or in HTTP/1.0: send one of them, in HTTP/1.1"
            await refuse(ApiError(400, message, headers={"Connection": "close"}), scope, receive, guarded)
        elif not self._knows_host(header(scope, "host")) and not _is_old_probe(scope):
            message = "the Host header names no host of this server; serve.allowed_hosts lists further names"
            await refuse(ApiError(421, message, None, "unknown_host"), scope, receive, guarded)
        elif scope["method"] not in _SAFE and not same_origin(scope):
            message = "requests from other sites are refused"
            await refuse(ApiError(403, message, None, "cross_origin"), scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _knows_host(self, host: str | None) -> bool:
        """An address cannot be rebound, so a server that listens on all of them takes any."""
        name = host_name(host or "")
        if name in self._hosts:
            return True
        return self._any_address and _is_address(name)


def _is_old_probe(scope: Scope) -> bool:
    """A health check of this machine in HTTP/1.0, which has no Host header. No browser speaks it."""
    old = scope["http_version"] == "1.0" and header(scope, "host") is None
    return old and scope["path"] in OPERATIONS and is_loopback(client_address(scope))


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without port and brackets; "" for one that cannot be read."""
    if set(host) & set("@/?#\\ "):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def same_origin(scope: Scope) -> bool:
    """True for a request from a page of this site, or from no page at all.

    Browsers tell by Sec-Fetch-Site, except to plain http hosts other than loopback, and there by Origin.
    """
    site = header(scope, "sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = header(scope, "origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == (header(scope, "host") or "").lower()
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
