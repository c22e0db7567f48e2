"""Authentication by a bearer key, or by the session of somebody who signed in with one on the page /sign-in."""

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lmworks.serve.api_keys import Key, KeyRing
from lmworks.serve.asgi import KEY, OPERATIONS, HttpMiddleware, client_address, header, is_api, refuse
from lmworks.serve.listener import is_loopback
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.pages.forms import local_path, read_form
from lmworks.serve.pages.page_templates import page
from lmworks.serve.rate_limits import TokenBuckets, too_many
from lmworks.serve.service import Service

COOKIE = "lmworks_session"
_SESSION_SECONDS = 7 * 24 * 3600
_MAXIMUM_SESSIONS = 1000
_WRONG_KEYS = 10  # a minute from each address


@dataclass(frozen=True, slots=True)
class _Session:
    key: Key
    expires: float


class Sessions:
    """Signing in with a key starts a session, which ends after a week, with its key, or with the server."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._wrong_keys = TokenBuckets(_WRONG_KEYS)
        self._table: OrderedDict[str, _Session] = OrderedDict()  # by hash, so that a dump of memory signs nobody in

    def count_wrong_key(self, scope: Scope) -> ApiError | None:
        """Count a wrong key from the address of a request; what it is told where there were too many of them."""
        wait = self._wrong_keys.take(client_address(scope))
        return too_many(f"{_WRONG_KEYS} wrong keys a minute", wait) if wait else None

    def start(self, key: Key) -> str:
        """A new token for the cookie. The oldest session ends when there are too many."""
        token = secrets.token_urlsafe(32)
        self._table[_hash(token)] = _Session(key, time.monotonic() + _SESSION_SECONDS)
        while len(self._table) > _MAXIMUM_SESSIONS:
            self._table.popitem(last=False)
        return token

    def key(self, token: str) -> Key | None:
        """The key that the session was started with, while both last."""
        session = self._table.get(_hash(token))
        if session is None:
            return None
        if session.expires < time.monotonic() or session.key not in self._ring.current():
            self.end(token)
            return None
        return session.key

    def end(self, token: str) -> None:
        self._table.pop(_hash(token), None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Authentication(HttpMiddleware):
    """Middleware: every path but sign-in and static files needs a key; operations are open to this machine alone.

    Who sends too many wrong keys is told to wait. A right one is taken nevertheless: others may share the address.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing, sessions: Sessions) -> None:
        super().__init__(app)
        self._ring, self._sessions = ring, sessions

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        key = self._key(scope)
        if key is not None:
            scope[KEY] = key.name
        if key is not None or _is_open(scope):
            await self._app(scope, receive, send)
        elif header(scope, "authorization") and (refusal := self._sessions.count_wrong_key(scope)):
            await refuse(refusal, scope, receive, send)
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
        authorization = header(scope, "authorization")
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
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


def router(service: Service, ring: KeyRing, sessions: Sessions) -> APIRouter:
    """The form that asks for a key, for a server that asks for keys."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/sign-in")
    async def form(request: Request) -> Response:
        return page(service, "sign_in.html", next=local_path(request.query_params.get("next", "")), error="")

    @routes.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        try:
            fields = await read_form(request)
        except ValueError as error:
            return page(service, "sign_in.html", 400, next="/", error=str(error))
        target = local_path(fields.get("next", ""))
        key = ring.verify(fields.get("key", "").strip())
        if key is None and (refusal := sessions.count_wrong_key(request.scope)):
            return page(service, "sign_in.html", 429, refusal.headers, next=target, error=f"There were {refusal}.")
        if key is None:
            return page(service, "sign_in.html", 401, next=target, error="This key is not known here.")
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        token = sessions.start(key)
        response.set_cookie(COOKIE, token, max_age=_SESSION_SECONDS, httponly=True, samesite="strict", secure=secure)
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        token = session_token(request.scope)
        if token:
            sessions.end(token)
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return routes
