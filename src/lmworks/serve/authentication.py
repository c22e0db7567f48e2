"""Who may ask: a bearer key, or the session of somebody who signed in with one."""

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lmworks.serve.api_keys import Key, KeyRing
from lmworks.serve.asgi import OPERATIONS, client_address, header, is_api, is_loopback, refuse
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.sessions import COOKIE, Sessions

KEY = "lmworks.key"  # where the scope names the key that a request was made with


class Authentication:
    """Middleware: every path but sign-in and static files needs a key; operations are open to this machine alone."""

    def __init__(self, app: ASGIApp, ring: KeyRing, sessions: Sessions) -> None:
        self._app, self._ring, self._sessions = app, ring, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        key = self._key(scope)
        if key is not None:
            scope[KEY] = key.name
        if key is not None or _is_open(scope):
            await self._app(scope, receive, send)
        elif is_api(path) or scope["method"] not in ("GET", "HEAD"):
            error = ApiError(
                401,
                "no valid API key was given: send it as `Authorization: Bearer lmw-...`",
                None,
                "invalid_api_key",
                {"WWW-Authenticate": "Bearer"},
            )
            await refuse(error, scope, receive, send)
        else:
            query = scope["query_string"].decode("latin-1")
            target = quote(path + (f"?{query}" if query else ""), safe="")
            await RedirectResponse(f"/sign-in?next={target}", 303)(scope, receive, send)

    def _key(self, scope: Scope) -> Key | None:
        """A bearer key decides alone: a wrong one is not rescued by a cookie."""
        given = header(scope, "authorization")
        if given is not None:
            scheme, _, secret = given.partition(" ")
            return self._ring.verify(secret.strip()) if scheme.lower() == "bearer" else None
        token = session_token(scope)
        return self._sessions.key(token) if token else None


def session_token(scope: Scope) -> str | None:
    """The session's token in the cookies of a request.

    Split by hand: the standard library's parser stops at the first cookie that it finds odd, and any other server on
    this machine may have set one.
    """
    for cookie in (header(scope, "cookie") or "").split(";"):
        name, _, value = cookie.partition("=")
        if name.strip() == COOKIE:
            return value.strip()
    return None


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    if path in OPERATIONS:
        return is_loopback(client_address(scope))
    return path == "/sign-in" or path.startswith("/static/")
