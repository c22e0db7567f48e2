"""The page /experiments: what runs, what each arm did, and what to do, in words."""

import asyncio
import time
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.monitor.experiment import Course, change_course, read_course, read_courses
from lmworks.monitor.experiment_results import Effect, Readout, read_out
from lmworks.serve.asgi import KEY
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page, segment
from lmworks.serve.pages.plots import line_plot
from lmworks.serve.service import Service

_FRESH = 30.0  # seconds for which a read-out is shown again, plus ten times what it took
_PATIENCE = 0.2  # seconds that a page waits for one; then it comes without, and asks again


@dataclass(slots=True)
class _Kept:
    reading: asyncio.Task[Readout]
    began: float
    last: Readout | None = None
    until: float = 0.0


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    kept: dict[str, _Kept] = {}

    async def current(course: Course) -> Readout | None:
        """The newest read-out, read anew in the background where it is old: a million rows hold no page up."""
        name, now = course.experiment.name, time.monotonic()
        one = kept.get(name)
        if one is None or (one.reading.done() and now > one.until):
            reading = service.read_log(lambda reader: read_out(reader, course.experiment, time.time()))
            kept[name] = one = _Kept(asyncio.ensure_future(reading), now, one.last if one else None)
        done, _ = await asyncio.wait({one.reading}, timeout=_PATIENCE)
        if done and one.last is not one.reading.result():
            one.last, one.until = one.reading.result(), now + _FRESH + 10 * (time.monotonic() - one.began)
        return one.last

    @routes.get("/experiments")
    async def experiments() -> Response:
        courses = await service.read_log(read_courses)
        return page(service, "experiments.html", active="experiments", courses=courses)

    @routes.get("/experiments/{name}")
    async def experiment(name: str) -> Response:
        try:
            course = await service.read_log(lambda reader: read_course(reader, name))
        except LookupError as error:
            return error_page(service, 404, "No such experiment", str(error), "/experiments", "Experiments")
        found = await current(course)
        plots = [] if found is None else [(one, _plot(one)) for one in found.effects]
        headers = {"Refresh": "2"} if found is None else {}
        return page(
            service, "experiment.html", 200, headers, active="experiments", course=course, found=found, plots=plots
        )

    @routes.post("/experiments/{name}")
    async def act(name: str, request: Request) -> Response:
        try:
            fields = await read_form(request)
            reason, kind = bounded(fields.get("reason", "").strip()), fields.get("kind", "")
            if kind not in ("ramped", "stopped"):
                raise ValueError("an experiment is ramped or stopped")
            who = request.scope.get(KEY, "")
            await asyncio.to_thread(change_course, service.log, name, kind, time.time(), reason, who)
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
