"""The page /system: is it well, what is it made of, and what was an answer made from."""

import asyncio
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

import lmworks
from lmworks.monitor.store import is_postgres
from lmworks.records import Verdict
from lmworks.serve.pages import page_templates
from lmworks.serve.pages.cited_documents import document_link
from lmworks.serve.pages.lineage_graph import (
    ANSWER,
    Graph,
    StageFacts,
    ancestors,
    answer_items,
    layout,
    read_build,
    stage_items,
)
from lmworks.serve.pages.page_templates import size
from lmworks.serve.served_models import ServedModel
from lmworks.serve.service import Service
from lmworks.workspace import certainty_of


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the server at one moment; times in seconds. Each model with what runs, what waits, and the share of
    its key/value cache in use."""

    state: str
    failure: str
    uptime: float
    models: tuple[tuple[ServedModel, int, int, float], ...]
    logged: int
    log_size: str  # "" for a log that is not a file
    log_place: str
    pending: int

    @property
    def running(self) -> int:
        return sum(running for _, running, _, _ in self.models)

    @property
    def waiting(self) -> int:
        return sum(waiting for _, _, waiting, _ in self.models)


@dataclass(frozen=True, slots=True)
class AnswerView:
    id: str
    question: str
    citations: tuple[Verdict, ...]
    graph: Graph
    outdated: tuple[str, ...]  # names of what was replaced since


def versions() -> tuple[tuple[str, str], ...]:
    """The versions of the software that serves."""
    import torch

    return (
        ("lmworks", lmworks.__version__),
        ("Python", platform.python_version()),
        ("PyTorch", torch.__version__),
        ("Threads", str(torch.get_num_threads())),
        ("Machine", f"{platform.system()} {platform.machine()}"),
    )


def log_size(location: str | Path) -> int | None:
    """Bytes of the log's file and of what SQLite keeps next to it; None for a log in a database server."""
    if is_postgres(location):
        return None
    path = Path(location)
    return sum(beside.stat().st_size for beside in path.parent.glob(f"{path.name}*") if beside.is_file())


async def health(service: Service) -> Health:
    """The state of the server now."""
    location = service.log.location
    logged = await service.read_log(lambda reader: reader.count())
    bytes_ = await asyncio.to_thread(log_size, location)
    return Health(
        state=service.state,
        failure=service.failure,
        uptime=time.time() - service.started,
        models=tuple((model, *service.models.occupancy(model.name)) for model in service.models),
        logged=logged,
        log_size="" if bytes_ is None else size(bytes_),
        # A connection string may hold a password.
        log_place="PostgreSQL" if bytes_ is None else str(location),
        pending=service.log.pending,
    )


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    async def build(everything: bool) -> tuple[list[StageFacts], list[StageFacts]]:
        if service.current is None:
            return [], []
        return await asyncio.to_thread(read_build, service.workspace, service.current, everything=everything)

    @routes.get("/system")
    async def system(answer: str = "") -> HTMLResponse:
        try:
            stages, older = await build(everything=bool(answer))
        except FileNotFoundError as error:
            return page_templates.error_page(service, 404, "The build is not there any more", str(error), "/system")
        about = None
        if answer:
            try:
                interaction = await service.read_log(lambda reader: reader.get(answer))
            except KeyError:
                text = f"The log holds no interaction {answer[:40]}."
                return page_templates.error_page(service, 404, "No such answer", text, "/system")
            # `older` are artefacts of earlier builds that the workspace still holds.
            items = answer_items(interaction, stages, older)
            shown = ancestors(items, ANSWER)
            about = AnswerView(
                id=interaction.id,
                question=interaction.messages[-1].content if interaction.messages else "",
                citations=interaction.citations,
                graph=layout(shown),
                outdated=tuple(item.title for item in shown if not item.current),
            )
        return page_templates.page(
            service,
            "system.html",
            document_link=document_link,
            active="system",
            health=await health(service),
            description=service.current.description if service.current else "",
            certainty=certainty_of(service.workspace, service.current) if service.current else None,
            graph=layout(stage_items(stages)) if stages else None,
            answer=about,
            stages=stages,
            versions=versions(),
            config=service.config,
            largest=size(service.config.max_body_bytes),
        )

    return routes
