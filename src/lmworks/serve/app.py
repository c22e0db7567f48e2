"""The web application over a `Service`: its routes and middlewares put together."""

import asyncio
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.staticfiles import StaticFiles

from lmworks import __version__
from lmworks.serve import authentication, health, interactions_endpoint, pages
from lmworks.serve.api_keys import KeyRing
from lmworks.serve.asgi import HeadAsGet
from lmworks.serve.authentication import Authentication, Sessions
from lmworks.serve.error_handlers import UncaughtErrors, add_handlers
from lmworks.serve.metrics import CountRequests, Metrics
from lmworks.serve.openai import (
    chat_completions,
    embeddings_endpoint,
    models_endpoint,
    rerank,
    text_completions,
    tokenize_endpoint,
)
from lmworks.serve.openai.responses_api import responses_endpoint as responses
from lmworks.serve.openai.responses_api.response_history import ResponseStore
from lmworks.serve.rate_limits import BodyLimit, RateLimit
from lmworks.serve.security import Security
from lmworks.serve.service import Service


def create_app(service: Service) -> FastAPI:
    """The application; it neither loads nor closes the service. Errors as of `keys.read` where keys are asked for."""
    app = FastAPI(title="lmworks", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.responses = ResponseStore(service.log.config.retention_days * 86400)
    app.state.metrics = metrics = Metrics(service)
    app.state.abandoned = asyncio.Event()  # set: what still runs ends now
    service.observers.append(metrics.observe)
    routers: list[APIRouter] = [
        module.router
        for module in (
            chat_completions,
            text_completions,
            responses,
            embeddings_endpoint,
            rerank,
            tokenize_endpoint,
            models_endpoint,
        )
    ]
    routers += [interactions_endpoint.router, health.router]
    ring = KeyRing(Path(service.config.keys)) if service.config.keys else None
    sessions = Sessions(ring) if ring else None
    if ring and sessions:
        routers.append(authentication.router(service, ring, sessions))
    for router in (*routers, pages.router(service)):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=str(resources.files("lmworks.serve") / "static")), "static")
    add_handlers(app, service)
    # From the innermost to the outermost, as Starlette counts them.
    config = service.config
    app.add_middleware(HeadAsGet)
    app.add_middleware(UncaughtErrors, service=service)
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes)
    if config.requests_per_minute:
        app.add_middleware(RateLimit, per_minute=config.requests_per_minute)
    if ring and sessions:
        app.add_middleware(Authentication, ring=ring, sessions=sessions)
    app.add_middleware(Security, config=config)
    app.add_middleware(CountRequests, metrics=metrics)
    _document(app, with_keys=ring is not None)
    return app


def _document(app: FastAPI, *, with_keys: bool) -> None:
    """The OpenAPI document, without the 422 that FastAPI adds: an invalid body is a 400 here, as in OpenAI's API."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            if with_keys:
                document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
