"""/health, /ready and /metrics, for whoever runs the server."""

from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from lmworks.serve.metrics import Metrics
from lmworks.serve.openai.errors import Json, documented
from lmworks.serve.service import Service

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`detail` says why loading failed, where it did."""

    status: Literal["starting", "ready", "failed", "stopping"]
    detail: str = ""


@router.get("/health", responses={200: {"model": Health}, **documented(401, 421)})
async def health() -> Response:
    """200 as soon as the process answers, also while models are loading."""
    return Json(Health().model_dump())


@router.get(
    "/ready",
    responses={
        200: {"model": Readiness},
        503: {"model": Readiness, "description": "starting, failed or stopping"},
        **documented(401, 421),
    },
)
async def ready(request: Request) -> Response:
    """200 when requests are served; 503 before, and from the beginning of a shutdown on."""
    service: Service = request.app.state.service
    status = 200 if service.state == "ready" else 503
    return Json(Readiness(status=service.state, detail=service.failure).model_dump(), status)


@router.get(
    "/metrics",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format"},
        **documented(401, 421),
    },
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """The metrics, for Prometheus to scrape."""
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), media_type=CONTENT_TYPE_LATEST)
