"""The page /compare: two answers side by side, without the names of their systems, and a person's vote on them.

The pairs are those of two runs of an evaluation, or of one question that two systems were asked here. No page before
the vote names a system, holds the order that was drawn, or is at an address that does.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.artefact import append_row
from lmworks.config import to_mapping
from lmworks.evaluate.release.vote_results import summary
from lmworks.evaluate.release.votes import VOTES, Vote, order_shown, read_votes
from lmworks.generate.protocol import SamplingParameters
from lmworks.monitor.log import Reader
from lmworks.records import Interaction, Message, Provenance, question_of
from lmworks.serve.asgi import KEY
from lmworks.serve.interaction_record import Turn
from lmworks.serve.pages.chat_page import FAILURES, SAMPLING
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page
from lmworks.serve.pages.runs_page import find_run, find_runs, pairs_of, runs_folder
from lmworks.serve.served_models import CHATS
from lmworks.serve.service import Service

LONGEST_NAME = 80  # characters of an annotator's


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    file = service.workspace / VOTES

    @routes.get("/compare")
    async def start(request: Request, first: str = "", second: str = "", by: str = "") -> Response:
        try:
            runs = [await asyncio.to_thread(find_run, service, name) for name in (first, second) if first]
            if runs and first == second:
                raise ValueError("choose two different runs")
            if runs:
                await asyncio.to_thread(pairs_of, *sorted(runs, key=lambda run: run.digest))
        except (LookupError, ValueError) as error:
            return await _start(service, request, {"by": by, "run_first": first, "run_second": second}, str(error))
        chosen = sorted(run.digest for run in runs)
        return _redirect("runs", *chosen, by=by) if chosen else await _start(service, request, {"by": by})

    @routes.post("/compare/ask")
    async def ask(request: Request) -> Response:
        fields: dict[str, str] = {}
        try:
            fields = await read_form(request)
            return _redirect("asked", *sorted(await _ask(service, fields)), by=fields.get("by", ""))
        except (*FAILURES, ValueError) as error:
            return await _start(service, request, fields, str(error))

    @routes.get("/compare/results")
    async def results() -> Response:
        votes, unreadable = await asyncio.to_thread(read_votes, file)
        report = await asyncio.to_thread(summary, votes)
        context = {"total": len(votes), "decided": sum(vote.preference is not None for vote in votes), "report": report}
        return page(service, "votes.html", tables=report.tables, unreadable=unreadable, **context)

    @routes.get("/compare/preferences.jsonl")
    async def export() -> Response:
        rows = [vote.preference for vote in (await asyncio.to_thread(read_votes, file))[0]]
        lines = [json.dumps(to_mapping(row), ensure_ascii=False) + "\n" for row in rows if row]
        return Response("".join(lines), media_type="application/jsonl")

    @routes.get("/compare/{kind}/{first}/{second}")
    async def vote_page(request: Request, kind: str, first: str, second: str, by: str = "", at: str = "") -> Response:
        try:
            pairs = await _pairs(service, kind, first, second)
        except (LookupError, ValueError, OSError) as error:
            return error_page(service, 404, "These cannot be compared", str(error), "/compare", "Compare")
        annotator, ids = annotator_of(request, by), {pair.id: pair for pair in pairs}
        votes, _ = await asyncio.to_thread(read_votes, file)
        cast = [vote for vote in votes if vote.provenance.annotator == annotator and vote.id in ids]
        left = sorted(set(ids) - {vote.id for vote in cast})
        shown = ids[next((pair for pair in left if pair >= at), left[0])] if left else None
        context = {"address": request.url.path, "by": by, "total": len(pairs), "voted": len(cast), "shown": shown}
        if shown:
            sides = [shown.completions[number] for number in order_shown(shown, annotator)]
            context["sides"] = list(zip(("Left", "Right"), sides, strict=True))
        # Only when nothing is left to vote on may the names be seen.
        tables = () if left or not cast else (await asyncio.to_thread(summary, cast)).tables
        latest = cast[-1].id if cast else ""
        return page(service, "compare.html", tables=tables, latest=latest, **context)

    @routes.post("/compare/{kind}/{first}/{second}")
    async def vote(request: Request, kind: str, first: str, second: str) -> Response:
        try:
            fields = await read_form(request)
            pairs = [pair for pair in await _pairs(service, kind, first, second) if pair.id == fields.get("pair")]
            if not pairs:
                raise LookupError("this pair is not there any more; load the page again")
            voted = _voted(pairs[0], fields, annotator_of(request, fields.get("by", "")))
        except (LookupError, OSError, ValueError) as error:
            status = 400 if isinstance(error, ValueError) else 404
            return error_page(service, status, "This vote cannot be kept", str(error), "/compare", "Compare")
        await asyncio.to_thread(append_row, file, voted)
        return _redirect(kind, first, second, by=fields.get("by", ""), at=voted.id)

    return routes


async def _start(service: Service, request: Request, fields: Mapping[str, str], problem: str = "") -> Response:
    runs, unreadable = await asyncio.to_thread(find_runs, service)
    context = {"runs": runs, "unreadable": unreadable, "folder": runs_folder(service), "fields": fields}
    models = [model.name for model in service.models if model.kind in CHATS]
    status, signed_in = 400 if problem else 200, request.scope.get(KEY, "")
    return page(service, "compare_start.html", status, models=models, signed_in=signed_in, problem=problem, **context)


def _redirect(kind: str, first: str, second: str, **query: str) -> Response:
    return RedirectResponse(f"/compare/{kind}/{first}/{second}?{urlencode(query)}", 303)


def annotator_of(request: Request, by: str) -> str | None:
    """The name of the key that somebody is signed in with, else the name that they give."""
    return request.scope.get(KEY) or " ".join(by.split())[:LONGEST_NAME] or None


def _voted(pair: Vote, fields: Mapping[str, str], annotator: str | None) -> Vote:
    """ValueError for a choice that is none; "undo" takes an earlier vote back."""
    order = order_shown(pair, annotator)
    left_first = (1, 2) if order == [0, 1] else (2, 1)
    ranks = {"left": left_first, "right": left_first[::-1], "tie": (1, 1), "both bad": (1, 1), "undo": None}
    if (choice := fields.get("choice", "")) not in ranks:
        raise ValueError(f"a vote is one of {', '.join(ranks)}, got {choice[:40]!r}")
    return replace(
        pair,
        time=time.time(),
        ranks=ranks[choice],
        shown=tuple(order.index(number) for number in (0, 1)),
        bad=choice == "both bad",
        reason=bounded(fields.get("reason", "").strip()),
        provenance=replace(pair.provenance, annotator=annotator),
    )


async def _pairs(service: Service, kind: str, *names: str) -> list[Vote]:
    """The pairs of two runs, by their content hashes, or of two logged answers, by their ids."""
    first, second = sorted(names)  # one order, whatever the address has
    if kind == "asked":
        return [await service.read_log(lambda log: _asked_pair(log, first, second))]
    if kind != "runs":
        raise LookupError(f"there are pairs of runs and of what was asked, not of {kind[:40]!r}")
    return await asyncio.to_thread(lambda: pairs_of(find_run(service, first), find_run(service, second)))


def _asked_pair(log: Reader, first: str, second: str) -> Vote:
    try:
        a, b = log.get(first), log.get(second)
    except KeyError as error:
        raise LookupError(f"the log holds no interaction {error.args[0]}") from None
    question, texts, systems = question_of(a.messages), (a.response, b.response), (_system(a), _system(b))
    if not question or question != question_of(b.messages) or systems[0] == systems[1] or not any(texts):
        raise LookupError("these are not answers of two systems to one question, or the log keeps no texts of them")
    return Vote(question, texts, systems, provenance=Provenance(f"interactions {a.id} and {b.id}"))


def _system(interaction: Interaction) -> str:
    temperature = interaction.parameters.get("temperature")
    return interaction.route if temperature is None else f"{interaction.route}, temperature {temperature:g}"


async def _ask(service: Service, fields: Mapping[str, str]) -> list[str]:
    """Ask two systems one question, and log what they answer; the ids. Errors as of `Service.chat`."""
    question = fields.get("question", "").strip()
    systems = [(fields.get(side, ""), float(fields.get(f"{side}_temperature") or 0)) for side in ("first", "second")]
    if not question or systems[0] == systems[1]:
        raise ValueError("ask a question, and two systems or one at two temperatures")

    async def answer(model: str, temperature: float) -> str:
        sampling = replace(SamplingParameters(**SAMPLING), temperature=temperature)
        turn = Turn(model, (Message("user", question),), sampling=sampling, id=secrets.token_hex(8))
        async for _ in service.chat(turn):
            pass
        return turn.id

    return await asyncio.gather(*(answer(*system) for system in systems))
