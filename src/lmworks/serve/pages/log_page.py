"""The page /log: one table of all interactions, newest first, with one filter box and a panel for the one chosen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from lmworks.ground.answer_text import unfenced
from lmworks.monitor.log import LogRow, Reader
from lmworks.serve.pages import interaction_page, page_templates
from lmworks.serve.service import Service

PAGE = 50
EXAMPLES = (
    ("with statement", "both words, in the question or the answer"),
    ('"with statement"', "next to each other"),
    ("route:assistant", "who was asked: the assistant, or a model by its name"),
    ("abstained:yes", "what the assistant did not answer; also error, notes, redacted"),
    ("thumbs:down", "what people said of it: up, down or none"),
    ("confidence<0.5", "numbers, with < <= > >=; also seconds, input_tokens, output_tokens"),
    ("since:2h", "ago, in s, m, h, d or w, or a date; also until"),
    ("model:9f86d0", "the start of a hash; also prompt and index"),
    ("-error:yes", "a leading minus negates what follows"),
)

Place = tuple[float, str]  # time and id of a row: where a page of the log continues


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table; `flags` are words with a tone, such as ("abstained", "caution")."""

    id: str
    time: float
    route: str
    question: str
    answer: str
    measure: str  # confidence of a grounded answer, else the number of tokens
    measure_name: str
    seconds: float
    thumbs: str
    notes: int
    flags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LogView:
    """A page of the log: rows, the links to go on, and what was wrong with the filter."""

    rows: tuple[Row, ...]
    filter: str
    error: str
    total: int | None  # of all pages; None where the filter could not be read
    older: str
    newest: str  # the link back to the first page; "" on it


def row(logged: LogRow) -> Row:
    """One interaction as it stands in the table."""
    flags: list[tuple[str, str]] = []
    if logged.error:
        flags.append((logged.error, "bad"))
    if logged.abstained:
        flags.append(("abstained", "caution"))
    if logged.finish_reason in ("cancelled", "length") and not logged.error:
        flags.append((logged.finish_reason, ""))
    if logged.confidence is not None:
        measure, name = f"{logged.confidence:.2f}", "confidence"
    else:
        measure, name = page_templates.counted(logged.input_tokens + logged.output_tokens, "token"), "tokens"
    return Row(
        id=logged.id,
        time=logged.time,
        route=logged.route or logged.operation,
        question=logged.question,
        answer=unfenced(logged.response),
        measure=measure,
        measure_name=name,
        seconds=logged.seconds or 0.0,
        thumbs=logged.thumbs or "",
        notes=logged.notes,
        flags=tuple(flags),
    )


def view(rows: Sequence[LogRow], filter: str, total: int, before: Place | None, size: int = PAGE) -> LogView:  # noqa: A002
    """One page; `rows` holds one row more than a page where there are older ones."""
    shown = rows[:size]
    older = _link(filter, (shown[-1].time, shown[-1].id)) if len(rows) > size else ""
    return LogView(tuple(map(row, shown)), filter, "", total, older, _link(filter) if before else "")


def _link(filter: str, before: Place | None = None) -> str:  # noqa: A002
    query = {"filter": filter} if filter else {}
    if before:
        query["before"] = place_text(before)
    return f"/log?{urlencode(query)}" if query else "/log"


def place_text(position: Place) -> str:
    """A place in the log as it stands in a link; the number is written so that it reads back the same."""
    return f"{position[0]!r}_{position[1]}"


def read_place(text: str) -> Place | None:
    """The inverse; None for no text, ValueError for one that is no place."""
    if not text:
        return None
    number, _, identifier = text.partition("_")
    try:
        time = float(number)
    except ValueError:
        time = math.nan
    if not identifier or not math.isfinite(time):
        raise ValueError("the link to this page of the log is damaged; start again from the newest")
    return time, identifier


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    routes.include_router(interaction_page.router(service))

    @routes.get("/log")
    async def log(filter: str = "", before: str = "") -> HTMLResponse:  # noqa: A002
        try:
            position = read_place(before)
        except ValueError as error:
            return page_templates.error_page(service, 400, "That page cannot be shown", str(error), "/log")

        def read(reader: Reader) -> LogView:
            return view(reader.find(filter, PAGE + 1, position), filter, reader.count(filter), position)

        status = 200
        try:
            shown = await service.read_log(read)
        except ValueError as error:  # the filter's language: shown next to the box, with what was typed
            status, shown = 400, LogView((), filter, str(error), None, "", "")
        newest = place_text((shown.rows[0].time, shown.rows[0].id)) if shown.rows else place_text((0.0, "0"))
        return page_templates.page(
            service, "log.html", status, active="log", log=shown, examples=EXAMPLES, newest=newest, live=not before
        )

    # Two parts, so that no interaction's id can be taken for it.
    @routes.get("/log/newer/count")
    async def newer(filter: str = "", after: str = "") -> Response:  # noqa: A002
        """The number of rows since `after`, for the button that shows them; "more" when there are more yet."""
        try:
            position = read_place(after)
            rows = await service.read_log(lambda reader: reader.find(filter, PAGE))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        count = sum(position is None or (row.time, row.id) > position for row in rows)
        return JSONResponse({"count": count, "more": count == PAGE})

    return routes
