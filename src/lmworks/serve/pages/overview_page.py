"""The page /overview: in five lines, how the system is doing."""

import time
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import Response

from lmworks.monitor.experiment import read_states
from lmworks.monitor.log import Reader
from lmworks.monitor.review import read_config, summary
from lmworks.serve.pages.page_templates import count, counted, iso, page
from lmworks.serve.service import Service
from lmworks.versions import promotions, waiting

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Line:
    """`tone` is "", "caution" or "bad"; `href` leads to the page that tells more."""

    name: str
    text: str
    href: str
    tone: str = ""


def lines(service: Service, reader: Reader, now: float) -> tuple[Line, ...]:
    """Traffic, quality, experiments, alarms and versions; each from an index of the log, whatever its size."""
    quality = _quality(service, reader, now)
    return (_traffic(reader, now), quality, _experiments(reader), _alarms(reader, now), _live(service))


def _traffic(reader: Reader, now: float) -> Line:
    inside = "time >= ? AND time < ?"
    ((day,),) = reader.rows("interactions", "count(*)", inside, [now - _DAY, now])
    ((errors,),) = reader.rows("interactions", "count(*)", f"{inside} AND error != ''", [now - _DAY, now])
    ((week,),) = reader.rows("interactions", "count(*)", inside, [now - 8 * _DAY, now - _DAY])
    if not day:
        return Line("Traffic", "no request in the last 24 hours", "/log", "caution" if week else "")
    text = f"{counted(day, 'request')} in 24 hours, {count(round(week / 7))} a day in the week before; {errors} failed"
    return Line("Traffic", text, "/log?filter=error:yes" if errors else "/log", "bad" if errors > 0.05 * day else "")


def _quality(service: Service, reader: Reader, now: float) -> Line:
    where = "thumbs != '' AND time >= ? GROUP BY thumbs"
    thumbs = dict(reader.rows("interactions", "thumbs, count(*)", where, [now - 7 * _DAY]))  # type: ignore[arg-type]
    up, down = thumbs.get("up", 0), thumbs.get("down", 0)
    good = summary(reader, read_config(service.workspace), now - 30 * _DAY).good
    text = f"{count(up)} thumbs up and {count(down)} down in 7 days; good by review: {good}"
    return Line("Quality", text, "/review")


def _experiments(reader: Reader) -> Line:
    states = [state for state in read_states(reader) if state.events]
    if running := [state.experiment.name for state in states if state.status == "running"]:
        return Line("Experiments", f"running: {', '.join(running)}", "/experiments")
    last = max(states, key=lambda state: state.events[-1].time, default=None)
    text = "none yet"
    if last is not None:
        text = f"none runs; the last was {last.experiment.name}, {last.events[-1].kind}: {last.events[-1].reason}"
    return Line("Experiments", text, "/experiments")


def _alarms(reader: Reader, now: float) -> Line:
    where = "state = 'open' AND level IN ('warn', 'alarm') AND muted_until <= ? ORDER BY time DESC"
    rows = reader.rows("alerts", "level, rule, signal, time", where, [now])
    if not rows:
        return Line("Alarms", "none is open", "/alarms")
    level, rule, signal, moment = rows[0]
    tone = "bad" if any(row[0] == "alarm" for row in rows) else "caution"
    return Line("Alarms", f"{len(rows)} open; the newest: {level} {rule} {signal}, {iso(moment)}", "/alarms", tone)


def _live(service: Service) -> Line:
    live = service.current.version if service.current else ""
    if not live:
        return Line("Version", "models are served, no system that was built", "/system")
    last = next((promotion for promotion in reversed(promotions(service.workspace)) if promotion.version == live), None)
    since = f"{last.kind} {iso(last.time)} by {last.who}: {last.reason}" if last else "as it was built"
    count = len(waiting(service.workspace))
    return Line("Version", f"{live} is live, {since}; {count} wait for `lmworks promote`", "/system")


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/overview")
    async def overview() -> Response:
        shown = await service.read_log(lambda reader: lines(service, reader, time.time()))
        return page(service, "overview.html", lines=shown)

    return routes
