"""The page /rank: several answers to one prompt, which a person orders from best to worst, with ties.

The answers are those of a file of rows in the folder `rank` of the workspace. As on /compare, no page before the
ranking names a system or holds the order that was drawn.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.artefact import append_row
from lmworks.data.training_rows import row_columns
from lmworks.evaluate.release.vote_results import agreement, summary
from lmworks.evaluate.release.votes import RANKINGS, Vote, order_shown, read_candidates, read_votes
from lmworks.serve.asgi import KEY
from lmworks.serve.pages.compare_page import annotator_of
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page
from lmworks.serve.service import Service

FOLDER = "rank"  # of a workspace: files of prompts with completions


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    file = service.workspace / RANKINGS

    @routes.get("/rank")
    async def start(request: Request, by: str = "") -> Response:
        rankings, unreadable = await asyncio.to_thread(read_votes, file)
        votes = [vote for ranking in rankings for vote in ranking.pairs]
        named = [vote for vote in votes if vote.systems and all(vote.systems) and len({*vote.systems}) > 1]
        context = {
            "files": [path.name for path in sorted((service.workspace / FOLDER).glob("*.jsonl"))],
            "folder": service.workspace / FOLDER,
            "rankings": sum(bool(ranking.ranks) for ranking in rankings),
            "preferences": sum(vote.preference is not None for vote in votes),
            "agreement": await asyncio.to_thread(agreement, votes),
            "tables": (await asyncio.to_thread(summary, named)).tables if named else (),
            "signed_in": request.scope.get(KEY, ""),
        }
        return page(service, "rank_start.html", **context, by=by, unreadable=unreadable)

    @routes.get("/rank/preferences.jsonl")
    async def export() -> Response:
        rankings, _ = await asyncio.to_thread(read_votes, file)
        rows = [json.dumps(row_columns(row), ensure_ascii=False) for ranking in rankings for row in ranking.preferences]
        return Response("".join(f"{row}\n" for row in rows), media_type="application/jsonl")

    @routes.get("/rank/file/{name}")
    async def rank_page(request: Request, name: str, by: str = "") -> Response:
        try:
            items = await asyncio.to_thread(_candidates, service, name)
        except (LookupError, ValueError, OSError) as error:
            return error_page(service, 404, "These cannot be ranked", str(error), "/rank", "Rank")
        annotator = annotator_of(request, by)
        rankings, _ = await asyncio.to_thread(read_votes, file)
        done = [ranking.id for ranking in rankings if ranking.provenance.annotator == annotator and ranking.id in items]
        shown = next((item for item in items if item not in set(done)), "")
        texts = [items[shown].completions[n] for n in order_shown(items[shown], annotator)] if shown else []
        prompt = items[shown].prompt if shown else ""
        context = {"item": shown, "prompt": prompt, "texts": texts, "latest": done[-1] if done else "", "by": by}
        return page(service, "rank.html", address=request.url.path, total=len(items), done=len(done), **context)

    @routes.post("/rank/file/{name}")
    async def keep(request: Request, name: str) -> Response:
        try:
            fields = await read_form(request)
            items = await asyncio.to_thread(_candidates, service, name)
            if fields.get("item") not in items:
                raise LookupError("these answers are not there any more; load the page again")
            ranking = _ranked(items[fields["item"]], fields, annotator_of(request, fields.get("by", "")))
        except (LookupError, OSError, ValueError) as error:
            status = 400 if isinstance(error, ValueError) else 404
            return error_page(service, status, "This ranking cannot be kept", str(error), "/rank", "Rank")
        await asyncio.to_thread(append_row, file, ranking)
        query = urlencode({"by": fields.get("by", "")})
        return RedirectResponse(f"/rank/file/{quote(name)}?{query}", 303)

    return routes


def _candidates(service: Service, name: str) -> Mapping[str, Vote]:
    """The prompts of a file with their answers, by what identifies them."""
    path = next((path for path in (service.workspace / FOLDER).glob("*.jsonl") if path.name == name), None)
    if path is None:
        raise LookupError(f"there is no file {name} in {service.workspace / FOLDER}")
    return {vote.id: vote for vote in read_candidates(path)}


def _ranked(vote: Vote, fields: Mapping[str, str], annotator: str | None) -> Vote:
    """ValueError for what is no ranking; "skip" leaves the prompt out, "undo" takes an earlier ranking back."""
    order, count = order_shown(vote, annotator), len(vote.completions)
    shown = tuple(order.index(number) for number in range(count))
    ranks: tuple[int, ...] | None = {"skip": (), "undo": None}.get(fields.get("choice", ""), ())
    if fields.get("choice") == "keep":
        typed = [fields.get(f"rank{position}", "") for position in shown]
        if not all(rank.isascii() and rank.isdigit() and 1 <= int(rank) <= count for rank in typed):
            raise ValueError(f"each answer has a rank from 1 to {count}")
        ranks = tuple(1 + len({other for other in map(int, typed) if other < int(rank)}) for rank in typed)
    elif fields.get("choice") not in ("skip", "undo"):
        raise ValueError(f"a ranking is kept, skipped or undone, got {fields.get('choice', '')[:40]!r}")
    reason, provenance = bounded(fields.get("reason", "").strip()), replace(vote.provenance, annotator=annotator)
    return replace(vote, time=time.time(), ranks=ranks, shown=shown, reason=reason, provenance=provenance)
