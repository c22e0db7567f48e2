"""GET and POST /sign-in, POST /sign-out: from a key to the session cookie and back."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from lmworks.serve.api_keys import KeyRing
from lmworks.serve.authentication import session_token
from lmworks.serve.pages.forms import local_path, read_form
from lmworks.serve.pages.page_templates import page
from lmworks.serve.service import Service
from lmworks.serve.sessions import COOKIE, SECONDS, Sessions


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
        if key is None:
            return page(service, "sign_in.html", 401, next=target, error="This key is not known here.")
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        token = sessions.start(key)
        response.set_cookie(COOKIE, token, max_age=SECONDS, httponly=True, samesite="strict", secure=secure)
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
