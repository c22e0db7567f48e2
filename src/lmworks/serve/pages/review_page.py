"""The page /review: one answer of the queue at a time, a verdict by the rubric, and one key that makes a row of it."""

import asyncio
import time
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.monitor.review import DESTINATIONS, Judgement, items, judge, read_config, send, summary, take
from lmworks.serve.asgi import KEY
from lmworks.serve.pages.compare_page import annotator_of
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page
from lmworks.serve.service import Service

_KEYS = {"questions": "q", "preferences": "p", "labels": "k", "bugs": "b"}
_DAYS = 90  # of the queue that the summary is of


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    def refused(error: Exception) -> Response:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        return error_page(service, 400, "This review cannot be kept", text, "/review", "Review")

    @routes.get("/review")
    async def start(request: Request, by: str = "") -> Response:
        try:
            config = await asyncio.to_thread(read_config, service.workspace)
        except ValueError as error:
            return error_page(service, 400, "review.toml cannot be read", str(error), "/review", "Review")
        state = await service.read_log(lambda reader: summary(reader, config, time.time() - _DAYS * 86400))
        rules = dict.fromkeys([*config.rules, *state.waiting, *state.reviewed])
        context = {"summary": state, "rules": rules, "by": by, "signed_in": request.scope.get(KEY, ""), "days": _DAYS}
        return page(service, "review_start.html", **context)

    @routes.get("/review/next")
    async def following(request: Request, by: str = "", rule: str = "", last: str = "") -> Response:
        annotator = annotator_of(request, by) or ""
        if not annotator:
            return refused(ValueError("a review needs your name, which is stored with your verdicts"))
        try:
            config = await asyncio.to_thread(read_config, service.workspace)
            item = await asyncio.to_thread(take, service.log, config, annotator, time.time(), rule)
            interaction = await service.read_log(lambda reader: reader.get(item.interaction)) if item else None
            before = (await service.read_log(lambda reader: items(reader, "id = ?", [last])))[:1] if last else []
        except (LookupError, ValueError) as error:
            return refused(error)
        context = {"item": item, "turn": interaction, "rubric": config.rubric, "by": by, "rule": rule, "keys": _KEYS}
        return page(service, "review.html", last=before[0] if before else None, **context)

    @routes.post("/review/{identifier}")
    async def keep(request: Request, identifier: str) -> Response:
        try:
            fields = await read_form(request)
            annotator = annotator_of(request, fields.get("by", "")) or ""
            config = await asyncio.to_thread(read_config, service.workspace)
            (first, _), *further = config.rubric.items()
            if (to := fields.get("send", "")) in DESTINATIONS:
                await asyncio.to_thread(send, service.log, service.workspace, identifier, to, annotator)
            else:
                choices = {first: fields.get("choice", "")} | {name: fields.get(name, "") for name, _ in further}
                texts = [bounded(fields.get(name, "").strip()) for name in ("better", "quote", "note")]
                judgement = Judgement(choices, *texts)
                await asyncio.to_thread(judge, service.log, config, identifier, annotator, judgement, time.time())
        except (LookupError, OSError, ValueError) as error:
            return refused(error)
        query = {"by": fields.get("by", ""), "rule": fields.get("rule", ""), "last": identifier}
        return RedirectResponse(f"/review/next?{urlencode(query)}", 303)

    return routes
