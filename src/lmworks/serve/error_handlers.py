"""Errors that no endpoint caught, as answers: JSON for programs, a page for people."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmworks.serve.asgi import OPERATIONS, HttpMiddleware, is_api
from lmworks.serve.openai.errors import ApiError, from_exception, from_validation
from lmworks.serve.openai.request_bodies import UNSUPPORTED
from lmworks.serve.pages.page_templates import error_page
from lmworks.serve.service import Service

_LOGGER = logging.getLogger(__name__)
_ALWAYS = ("/static/", "/sign-in")


def add_handlers(app: FastAPI, service: Service) -> None:
    """Answers to what FastAPI and Starlette raise: an invalid body, an unknown path, a method that is not allowed."""

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return from_validation(error.errors(), UNSUPPORTED, error.body).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path
        hint = ": the API is under /v1, which a client's base_url ends with" * (f"/v1{path}" in app.openapi()["paths"])
        messages = {
            404: f"there is nothing at {path}{hint}",
            405: f"{request.method} is not allowed at {path}{hint}",
            400: "the body is no JSON that can be read here",
        }
        message = messages.get(error.status_code, str(error.detail))
        return error_response(request.scope, service, ApiError(error.status_code, message, headers=error.headers))

    async def api(request: Request, error: Exception) -> Response:
        return error_response(request.scope, service, from_exception(error))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ApiError, api)


def error_response(scope: Scope, service: Service, error: ApiError) -> Response:
    """The error as JSON or as a page, by who speaks to the path, or sends JSON to it."""
    json = (b"content-type", b"application/json") in scope["headers"]
    if json or is_api(scope["path"]) or scope["method"] not in ("GET", "HEAD", "POST"):
        return error.response()
    return error_page(service, error.status, HTTPStatus(error.status).phrase, error.message)


class UncaughtErrors(HttpMiddleware):
    """Middleware, innermost: what nobody caught is logged here, once, and answered without its details."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        super().__init__(app)
        self._service = service

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if self._service.state == "stopping" and not scope["path"].startswith((*OPERATIONS, *_ALWAYS)):
                error = ApiError(503, "the server is shutting down", None, "shutting_down", {"Retry-After": "5"})
                await error_response(scope, self._service, error)(scope, receive, watched)
                return
            await self._app(scope, receive, watched)
        except Exception as error:
            api_error = from_exception(error)
            if started:
                _LOGGER.error("a response could not be finished", exc_info=error)
                raise
            await error_response(scope, self._service, api_error)(scope, receive, watched)
