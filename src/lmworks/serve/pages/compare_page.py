"""The page /compare: two answers side by side, without the names of their systems, and a person's vote on them.

The pairs are those of two runs of an evaluation, or of one question that two systems were asked here. No page before
the vote names a system, holds the order that was drawn, or is at an address that does.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.config import to_mapping
from lmworks.evaluate.vote_results import summary
from lmworks.evaluate.votes import VOTES, Pair, VoteFile, pair_of, preferences, run_pairs
from lmworks.generate.protocol import SamplingParameters
from lmworks.monitor.log import Reader
from lmworks.records import Interaction, Message, Provenance, Scored, Vote
from lmworks.report import dot_plot
from lmworks.serve.asgi import KEY
from lmworks.serve.events import BusyError, DeadlineError, FailedError, NotReadyError, UnknownModelError
from lmworks.serve.interaction_record import Turn, question_of
from lmworks.serve.pages.chat_page import SAMPLING
from lmworks.serve.pages.evaluation_page import FIGURE_HEADERS
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page
from lmworks.serve.pages.run_list import find_run, find_runs, results_of, runs_folder
from lmworks.serve.service import Service

CHOICES = ("left", "right", "tie", "both bad")
LONGEST_NAME = 80  # characters of an annotator's
_FAILURES = (BusyError, NotReadyError, UnknownModelError, DeadlineError, FailedError, ValueError, LookupError)


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as an annotator sees it; `chosen` is what was voted before, "" for nothing."""

    pair: Pair
    prompt: str
    left: str
    right: str
    chosen: str
    reason: str


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    votes = VoteFile(service.workspace / VOTES)

    @routes.get("/compare")
    async def start(request: Request, by: str = "") -> Response:
        return await _start(service, request, by)

    @routes.get("/compare/runs")
    async def choose(request: Request, first: str = "", second: str = "", by: str = "") -> Response:
        try:
            runs = [await asyncio.to_thread(find_run, runs_folder(service), name=name) for name in (first, second)]
            if first == second:
                raise ValueError("choose two different runs")
        except (LookupError, ValueError) as error:
            return await _start(service, request, by, problem=str(error))
        digests = sorted(run.manifest.content_hash[:16] for run in runs)
        return RedirectResponse(_address("runs", *digests, by=by), 303)

    @routes.post("/compare/ask")
    async def ask(request: Request) -> Response:
        fields: dict[str, str] = {}
        try:
            fields = await read_form(request)
            identifiers = await _ask(service, fields)
        except _FAILURES as error:
            return await _start(service, request, fields.get("by", ""), fields, str(error))
        return RedirectResponse(_address("asked", *sorted(identifiers), by=fields.get("by", "")), 303)

    @routes.get("/compare/results")
    async def results() -> Response:
        standing = await asyncio.to_thread(votes.standing)
        found = await asyncio.to_thread(summary, standing)
        return page(
            service,
            "votes.html",
            shown_results=found,
            decided=len(preferences(standing)),
            unreadable=votes.unreadable,
            drawn=any(isinstance(one.strength, Scored) for one in found.standings),
        )

    @routes.get("/compare/strengths.svg")
    async def strengths() -> Response:
        found = await asyncio.to_thread(lambda: summary(votes.standing()))
        scored = {one.system: one.strength for one in found.standings if isinstance(one.strength, Scored)}
        points = {"": {name: (one.value, *one.interval) for name, one in scored.items()}}
        svg = await asyncio.to_thread(dot_plot, points, x="strength, log-odds")
        return Response(svg, media_type="image/svg+xml", headers=FIGURE_HEADERS)

    @routes.get("/compare/preferences.jsonl")
    async def export() -> Response:
        import json

        rows = preferences(await asyncio.to_thread(votes.standing))
        lines = (json.dumps(to_mapping(row), ensure_ascii=False) + "\n" for row in rows)
        headers = {"Content-Disposition": 'attachment; filename="preferences.jsonl"'}
        return Response("".join(lines), media_type="application/jsonl", headers=headers)

    @routes.get("/compare/{kind}/{first}/{second}")
    async def vote_page(
        request: Request, kind: str, first: str, second: str, by: str = "", pair: str = "", after: str = ""
    ) -> Response:
        try:
            pairs = await _pairs(service, kind, first, second)
        except (LookupError, ValueError, OSError) as error:
            return error_page(service, 404, "These cannot be compared", str(error), "/compare")
        annotator = _annotator(request, by)
        mine = await asyncio.to_thread(_votes_of, votes, annotator)
        open_pairs = [one for one in pairs if one.id not in mine]
        shown = next((one for one in pairs if one.id == pair), None) if pair else _next(open_pairs, after)
        done = [mine[one.id] for one in pairs if one.id in mine]
        latest = max(done, key=lambda vote: vote.time, default=None)
        return page(
            service,
            "compare.html",
            address=f"/compare/{kind}/{first}/{second}",
            by=by,
            shown=_shown(shown, annotator, mine.get(shown.id)) if shown else None,
            total=len(pairs),
            voted=len(done),
            latest=latest.pair if latest else "",
            shown_results=summary(done) if not open_pairs and done else None,
        )

    @routes.post("/compare/{kind}/{first}/{second}")
    async def vote(request: Request, kind: str, first: str, second: str) -> Response:
        try:
            fields = await read_form(request)
            pairs = await _pairs(service, kind, first, second)
            voted = next((one for one in pairs if one.id == fields.get("pair")), None)
            if voted is None:
                raise LookupError("this pair is not there any more; load the page again")
            by = fields.get("by", "")
            made = _vote(
                voted, fields.get("choice", ""), bounded(fields.get("reason", "").strip()), _annotator(request, by)
            )
        except (LookupError, OSError) as error:
            return error_page(service, 404, "This vote cannot be kept", str(error), "/compare")
        except ValueError as error:
            return error_page(service, 400, "This form cannot be read", str(error), "/compare")
        await asyncio.to_thread(votes.append, made)
        place = {"pair": voted.id} if made.choice is None else {"after": voted.id}
        return RedirectResponse(_address(kind, first, second, by=by, **place), 303)

    return routes


async def _start(
    service: Service, request: Request, by: str, fields: dict[str, str] | None = None, problem: str = ""
) -> Response:
    runs, unreadable = await asyncio.to_thread(find_runs, runs_folder(service))
    models = [model.name for model in service.models if model.kind != "embedding"]
    return page(
        service,
        "compare_start.html",
        400 if problem else 200,
        runs=runs,
        folder=str(runs_folder(service)),
        unreadable=unreadable,
        models=models,
        by=by,
        signed_in=request.scope.get(KEY, ""),
        problem=problem,
        fields={"question": "", "first": "", "second": "", "first_temperature": "0.2", "second_temperature": "1"}
        | (fields or {}),
    )


def _address(kind: str, first: str, second: str, **query: str) -> str:
    kept = {name: value for name, value in query.items() if value}
    return f"/compare/{kind}/{first}/{second}" + (f"?{urlencode(kept)}" if kept else "")


def _annotator(request: Request, by: str) -> str:
    """The name of the key that somebody is signed in with, else the name that they give; "" for nobody's."""
    return request.scope.get(KEY) or " ".join(by.split())[:LONGEST_NAME]


def _votes_of(votes: VoteFile, annotator: str) -> dict[str, Vote]:
    return {vote.pair: vote for vote in votes.standing() if (vote.provenance.annotator or "") == annotator}


def _next(pairs: list[Pair], after: str) -> Pair | None:
    """The first pair behind `after`, from the beginning again at the end."""
    return next((one for one in pairs if one.id > after), pairs[0] if pairs else None)


def _shown(pair: Pair, annotator: str, vote: Vote | None) -> Shown:
    swapped = pair.first_is_right(annotator)
    left, right = pair.completions[::-1] if swapped else pair.completions
    places = {"first": "right" if swapped else "left", "second": "left" if swapped else "right"}
    chosen = places.get(vote.choice or "", vote.choice or "") if vote else ""
    prompt = pair.prompt if isinstance(pair.prompt, str) else "\n\n".join(one.content for one in pair.prompt)
    return Shown(pair, prompt, left, right, chosen, vote.reason if vote else "")


def _vote(pair: Pair, choice: str, reason: str, annotator: str) -> Vote:
    """ValueError for a choice that is none; "undo" takes an earlier vote back."""
    if choice not in (*CHOICES, "undo"):
        raise ValueError(f"a vote is left, right, tie, both bad or undo, got {choice[:40]!r}")
    swapped = pair.first_is_right(annotator)
    left, right = ("second", "first") if swapped else ("first", "second")
    decided = {"left": left, "right": right, "undo": None}.get(choice, choice)
    provenance = Provenance(source=pair.source, annotator=annotator or None, order=int(swapped))
    return Vote(pair.id, time.time(), pair.prompt, pair.completions, pair.systems, decided, reason, provenance)  # type: ignore[arg-type]


async def _pairs(service: Service, kind: str, first: str, second: str) -> list[Pair]:
    """The pairs of two runs, by the beginnings of their content hashes, or of two logged answers, by their ids."""
    first, second = sorted((first, second))
    if kind == "asked":
        return [await service.read_log(lambda log: _asked_pair(log, first, second))]
    if kind != "runs":
        raise LookupError(f"there are pairs of runs and of what was asked, not of {kind[:40]!r}")

    def read() -> list[Pair]:
        runs = [find_run(runs_folder(service), digest=digest) for digest in (first, second)]
        hashes = (runs[0].manifest.content_hash, runs[1].manifest.content_hash)
        return run_pairs((runs[0].name, runs[1].name), hashes, [results_of(run) for run in runs])

    return await asyncio.to_thread(read)


def _asked_pair(log: Reader, *identifiers: str) -> Pair:
    try:
        one, other = (log.get(identifier) for identifier in identifiers)
    except KeyError as error:
        raise LookupError(f"the log holds no interaction {error.args[0]}") from None
    if not (one.response or other.response):
        raise LookupError("the log keeps no texts of these answers")
    source = f"interactions {one.id} and {other.id}"
    return pair_of(question_of(one.messages), (one.response, other.response), (_system(one), _system(other)), source)


def _system(interaction: Interaction) -> str:
    temperature = interaction.parameters.get("temperature")
    return interaction.route if temperature is None else f"{interaction.route}, temperature {temperature:g}"


async def _ask(service: Service, fields: dict[str, str]) -> list[str]:
    """Ask two systems one question, and log what they answer; the ids. Errors as of `Service.chat`."""
    question = fields.get("question", "").strip()
    asked = [(fields.get(name, ""), fields.get(f"{name}_temperature", "")) for name in ("first", "second")]
    if not question:
        raise ValueError("the question is empty")
    if asked[0] == asked[1]:
        raise ValueError("both would be the same: choose another system or another temperature")
    identifiers = [secrets.token_hex(8) for _ in asked]

    async def answer(identifier: str, model: str, temperature: str) -> None:
        sampling = replace(SamplingParameters(**SAMPLING), temperature=float(temperature or 0))
        async for _ in service.chat(Turn(model, (Message("user", question),), sampling=sampling, id=identifier)):
            pass

    answers = [answer(identifier, *one) for identifier, one in zip(identifiers, asked, strict=True)]
    for failed in await asyncio.gather(*answers, return_exceptions=True):
        if isinstance(failed, BaseException):
            raise failed
    return identifiers
