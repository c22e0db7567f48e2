"""The page /experiments: what runs, what each arm did, and what to do, in words."""

import asyncio
import time

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.monitor.experiment import ExperimentState, change_state, read_state, read_states
from lmworks.monitor.experiment_results import Effect, Result, read_out
from lmworks.serve.asgi import KEY
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page, segment
from lmworks.serve.pages.plots import line_plot
from lmworks.serve.service import Service

_FRESH = 60.0  # seconds for which a read-out is shown again
_PATIENCE = 0.2  # seconds that a page waits for one; then it comes without, and asks again


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    last: dict[str, Result] = {}
    reading: dict[str, asyncio.Task[None]] = {}

    async def current(state: ExperimentState) -> Result | None:
        """The newest read-out, read again in the background where it is old: a million rows hold no page up."""
        name, known = state.experiment.name, last.get(state.experiment.name)

        async def read() -> None:
            last[name] = await service.read_log(lambda reader: read_out(reader, state.experiment, time.time()))

        if name not in reading or (reading[name].done() and (not known or time.time() - known.time > _FRESH)):
            reading[name] = asyncio.create_task(read())
        done, _ = await asyncio.wait({reading[name]}, timeout=_PATIENCE)
        for task in done:
            task.result()  # an error is the page's
        return last.get(name)

    @routes.get("/experiments")
    async def experiments() -> Response:
        states = await service.read_log(read_states)
        return page(service, "experiments.html", active="experiments", states=states)

    @routes.get("/experiments/{name}")
    async def experiment(name: str) -> Response:
        try:
            state = await service.read_log(lambda reader: read_state(reader, name))
        except LookupError as error:
            return error_page(service, 404, "No such experiment", str(error), "/experiments", "Experiments")
        result = await current(state)
        plots = [] if result is None else [(effect, _plot(effect)) for effect in result.effects]
        headers = {"Refresh": "2"} if result is None else {}
        return page(
            service, "experiment.html", 200, headers, active="experiments", state=state, result=result, plots=plots
        )

    @routes.post("/experiments/{name}")
    async def act(name: str, request: Request) -> Response:
        try:
            fields = await read_form(request)
            reason, kind = bounded(fields.get("reason", "").strip()), fields.get("kind", "")
            if kind not in ("ramped", "stopped"):
                raise ValueError("an experiment is ramped or stopped")
            who = request.scope.get(KEY, "")
            await asyncio.to_thread(change_state, service.log, name, kind, time.time(), reason, who)
        except LookupError as error:
            return error_page(service, 404, "No such experiment", str(error), "/experiments", "Experiments")
        except ValueError as error:
            return error_page(service, 400, "This cannot be done", str(error), f"/experiments/{segment(name)}", "back")
        return RedirectResponse(f"/experiments/{segment(name)}", 303)

    return routes


def _plot(effect: Effect) -> str:
    if len(effect.sequence) < 2:
        return ""
    units, middle, low, high = zip(*effect.sequence, strict=True)
    label = f"{effect.metric} of {effect.arm} less that of the control, over {units[-1]:g} units, with its sequence"
    return line_plot(units, middle, low, high, label=label, rule=0.0, x_text=lambda value: f"{value:g} units")
