"""Pages of the runs of evaluations: the report of one, and two of them compared item by item."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import Response

from lmworks.artefact import REPORT
from lmworks.serve.pages.evaluation_page import FIGURE_HEADERS
from lmworks.serve.pages.page_templates import error_page
from lmworks.serve.pages.run_list import find_run, runs_folder
from lmworks.serve.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/evaluation/runs/{name}")
    async def report(name: str) -> Response:
        try:
            run = await asyncio.to_thread(find_run, runs_folder(service), name=name)
            text = await asyncio.to_thread((run.folder / REPORT).read_text, "utf-8")
        except (LookupError, OSError) as error:
            return error_page(service, 404, "No such run", str(error), "/evaluation")
        return Response(text, media_type="text/html", headers=FIGURE_HEADERS)  # it has its own style, and no script

    return routes
