"""The pages /drift, signals by evidence with their usual band, and /alarms, each with what it is about."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.monitor import alerts
from lmworks.monitor.drift import DAY, SignalRow, by_evidence, read_rows
from lmworks.monitor.log import Reader
from lmworks.monitor.review_sampling import enqueue
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page, segment
from lmworks.serve.pages.plots import line_plot
from lmworks.serve.service import Service

_DAYS = 35  # of a plot
_SENT = 50  # interactions to review


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/drift")
    async def drift(signal: str = "") -> Response:
        def read(reader: Reader) -> tuple[list[SignalRow], list[SignalRow], dict[str, str]]:
            ((newest,),) = reader.rows("drift", "max(time)")
            rows = by_evidence(read_rows(reader, since=newest)) if newest is not None else []
            chosen = signal or (rows[0].signal if rows else "")
            series = read_rows(reader, chosen, (newest or 0.0) - _DAYS * DAY)
            here = next((row for row in rows if row.signal == chosen), None)
            ids = [*here.examples[:10], *(id_ for cluster in here.clusters for id_ in cluster.examples)] if here else []
            return rows, series, questions(reader, ids)

        rows, series, texts = await service.read_log(read)
        chosen = next((row for row in rows if series and row.signal == series[-1].signal), None)
        if signal and chosen is None:
            return error_page(service, 404, "No such signal", f"{signal[:80]} was not measured.", "/drift", "Drift")
        return page(
            service, "drift.html", active="drift", rows=rows, chosen=chosen, plot=_plot(series), texts=texts,
        )  # fmt: skip

    @routes.get("/alarms")
    async def alarms() -> Response:
        rows = await service.read_log(alerts.read_alerts)
        muted = await service.read_log(lambda reader: alerts.muted_rules(reader, time.time()))
        context = {"alerts": rows, "muted": muted, "sentence": alerts.sentence}
        return page(service, "alarms.html", active="alarms", **context)

    @routes.get("/alarms/{identifier}")
    async def alarm(identifier: str, sent: int = -1) -> Response:
        rows = await service.read_log(lambda reader: alerts.read_alerts(reader, "id = ?", [identifier]))
        if not rows:
            return error_page(service, 404, "No such alarm", f"There is none {identifier[:80]}.", "/alarms", "Alarms")
        ids = rows[0].evidence.get("examples", [])
        clusters = [id_ for cluster in rows[0].evidence.get("clusters", ()) for id_ in cluster["examples"]]
        texts = await service.read_log(lambda reader: questions(reader, [*ids[:_SENT], *clusters]))
        series: list[SignalRow] = []
        if rows[0].rule == "drift":
            since = rows[0].time - _DAYS * DAY
            series = await service.read_log(lambda reader: read_rows(reader, rows[0].signal, since))
        return page(
            service, "alarm.html", active="alarms", alert=rows[0], texts=texts, plot=_plot(series), sent=sent,
            sentence=alerts.sentence(rows[0]), most=sum(id_ in texts for id_ in ids[:_SENT]),
        )  # fmt: skip

    @routes.post("/alarms/{identifier}")
    async def act(identifier: str, request: Request) -> Response:
        """`action` is "review" or "mute", the latter for `hours`."""
        rows = await service.read_log(lambda reader: alerts.read_alerts(reader, "id = ?", [identifier]))
        try:
            fields = await read_form(request)
            if not rows:
                raise ValueError("there is no such alarm any more")
            if fields.get("action") == "review":
                ids = rows[0].evidence.get("examples", [])[:_SENT]
                ids = [*await service.read_log(lambda reader: questions(reader, ids))]  # that the log still has
                count = await asyncio.to_thread(enqueue, service.log, ids, f"alarm:{rows[0].rule}", time.time())
                return RedirectResponse(f"/alarms/{segment(identifier)}?sent={count}", 303)
            hours = fields.get("hours", "24")
            if fields.get("action") != "mute" or not hours.isdigit() or not 0 < int(hours) <= 24 * 90:
                raise ValueError("an alarm is sent to review, or muted for 1 to 2160 hours")
            until, note = time.time() + 3600 * int(hours), bounded(fields.get("note", "").strip())
            await asyncio.to_thread(alerts.mute, service.log, rows[0].rule, until, time.time(), note)
        except ValueError as error:
            return error_page(service, 400, "This cannot be done", str(error), "/alarms", "Alarms")
        return RedirectResponse("/alarms", 303)

    return routes


def questions(reader: Reader, ids: Sequence[str]) -> dict[str, str]:
    """The questions of these interactions that the log still has."""
    placeholders = ", ".join("?" * len(ids))
    return dict(reader.rows("interactions", "id, question", f"id IN ({placeholders})", ids)) if ids else {}


def _plot(series: Sequence[SignalRow]) -> str:
    rows = [row for row in series if row.value is not None]
    band = bool(rows) and all(row.low is not None for row in rows)
    return line_plot(
        [row.time for row in rows], [row.value or 0.0 for row in rows],
        [row.low or 0.0 for row in rows] if band else (), [row.high or 0.0 for row in rows] if band else (),
        label=f"{rows[-1].signal if rows else 'nothing'} by window, with the band that is usual in these hours",
        x_text=lambda value: time.strftime("%-d %b", time.gmtime(value)),
    )  # fmt: skip
