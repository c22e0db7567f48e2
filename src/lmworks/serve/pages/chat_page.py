"""The chat page: a conversation is what the log holds of it, with or without JavaScript."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.evaluate.results import ITEMS, read_results
from lmworks.evaluate.span_overlap import is_right
from lmworks.generate.protocol import SamplingParameters
from lmworks.ground.grounding_evaluation import GROUPS
from lmworks.records import Interaction
from lmworks.serve.events import BusyError, DeadlineError, FailedError, NotReadyError, UnknownModelError
from lmworks.serve.interaction_record import Turn
from lmworks.serve.pages.chat_turns import calibrated, messages_of, view_turns
from lmworks.serve.pages.forms import read_form
from lmworks.serve.pages.log_page import place_text, read_place
from lmworks.serve.pages.page_templates import count, error_page, fragment, page, segment, system_name
from lmworks.serve.served_models import ASSISTANT, CHATS
from lmworks.serve.service import Service
from lmworks.workspace import calibration_caution

# How language models answer here; the script sends the same. Small models repeat themselves without the penalty.
SAMPLING = {"max_tokens": 512, "temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1}
COMMIT_SECONDS = 30.0  # a model finishes the token it is at before an answer that was stopped is in the log
LISTED = 30  # conversations
SHOWN_TURNS = 50  # of a conversation on one page
LONGEST_EXAMPLE = 90  # characters of a question that is suggested
LONGEST_NAME = 64  # characters of a conversation's id, as in the API
FAILURES = {BusyError: 429, NotReadyError: 503, UnknownModelError: 400, DeadlineError: 504, FailedError: 500}


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of the composer, and what went wrong with it."""

    question: str = ""
    model: str = ""
    problem: str = ""
    status: int = 200
    retry_after: int = 0


def router(service: Service) -> APIRouter:
    """The chat page, its turns one by one, and the form that asks."""
    routes = APIRouter()

    @routes.get("/")
    async def new_conversation(q: str = "", model: str = "") -> Response:
        return await _page(service, secrets.token_hex(8), (), Draft(q, model))

    @routes.get("/chat")
    async def chat() -> Response:
        return RedirectResponse("/", 307)

    @routes.get("/chat/turn/{identifier}")
    async def turn(identifier: str, wait: bool = False) -> Response:
        try:
            interaction = await _logged(service, identifier, COMMIT_SECONDS if wait else 0)
        except KeyError:
            return error_page(service, 404, "No such turn", f"The log holds no interaction {identifier}.")
        return fragment("_turn.html", turn=(await view_turns(service, [interaction]))[0])

    @routes.get("/chat/{conversation:path}")
    async def conversation(conversation: str, before: str = "") -> Response:
        try:
            turns = await _turns(service, conversation, read_place(before))
        except ValueError as error:
            return error_page(service, 400, "This page cannot be shown", _sentence(error))
        if not turns:
            return error_page(service, 404, "No such conversation", f"The log holds no conversation {conversation}.")
        return await _page(service, conversation, turns, Draft(model=turns[-1].route))

    @routes.post("/chat")
    async def ask(request: Request) -> Response:
        return await _answer_form(service, request)

    return routes


async def _answer_form(service: Service, request: Request) -> Response:
    """Answer a question that came by the plain form, to the end, and show the conversation."""
    try:
        fields = await read_form(request)
    except ValueError as error:
        return error_page(service, 400, "This form cannot be read", str(error))
    conversation = fields.get("conversation", "")[:LONGEST_NAME] or secrets.token_hex(8)
    parent = fields.get("parent", "")[:LONGEST_NAME] or None
    question, model = fields.get("question", ""), fields.get("model", "") or ASSISTANT
    turns = await _turns(service, conversation)
    try:
        if not question.strip():
            raise ValueError("the question is empty")
        messages = messages_of(await _leading_to(service, conversation, parent, turns), parent, question)
        asked = Turn(model, messages, sampling=SamplingParameters(**SAMPLING), conversation=conversation, parent=parent)
        async for _ in service.chat(asked):
            pass
    except (*FAILURES, ValueError) as error:
        status = next((code for kind, code in FAILURES.items() if isinstance(error, kind)), 400)
        wait = error.retry_after if isinstance(error, BusyError) else 0
        return await _page(service, conversation, turns, Draft(question, model, _sentence(error), status, wait))
    return RedirectResponse(f"/chat/{segment(conversation)}#last", 303)


async def _page(service: Service, conversation: str, turns: Sequence[Interaction], draft: Draft) -> Response:
    ready = service.state == "ready"
    models = [model for model in service.models if model.kind in CHATS]
    names = [model.name for model in models]
    headers = {} if ready or service.state == "failed" else {"Refresh": "5"}
    if draft.retry_after:
        headers["Retry-After"] = str(draft.retry_after)
    return page(
        service,
        "chat.html",
        draft.status,
        headers,
        conversation=conversation,
        turns=await view_turns(service, turns[-SHOWN_TURNS:]),
        earlier=place_text((turns[1].time, turns[1].id)) if len(turns) > SHOWN_TURNS else "",
        conversations=await service.read_log(lambda log: log.conversations(LISTED)),
        ready=ready,
        failure=service.failure,
        greeting="What would you like to know?" if ASSISTANT in names or not ready else "Talk to a language model",
        introduction=_introduction(service, names),
        caution=calibration_caution(service.workspace, service.current) if service.current and not turns else "",
        facts=await _facts(service, names) if not turns else [],
        examples=_examples(service) if not turns else (),
        models=models,
        chosen=draft.model if draft.model in names else (names[0] if names else ""),
        draft=draft.question,
        problem=draft.problem,
        sampling=SAMPLING,
    )


async def _logged(service: Service, identifier: str, wait: float) -> Interaction:
    """An interaction, which may still be on its way to the log for `wait` seconds; KeyError when it does not come."""
    until = time.monotonic() + wait
    while True:
        try:
            return await service.read_log(lambda log: log.get(identifier))
        except KeyError:
            if time.monotonic() >= until:
                raise
            await asyncio.sleep(0.05)


async def _turns(service: Service, conversation: str, before: tuple[float, str] | None = None) -> list[Interaction]:
    """The newest chat turns of a conversation, oldest first: those of a page, and one more where there are more."""
    limit = SHOWN_TURNS + 1
    return await service.read_log(lambda log: log.conversation(conversation, limit, before, operation="chat"))


async def _leading_to(
    service: Service, conversation: str, parent: str | None, turns: Sequence[Interaction]
) -> Sequence[Interaction]:
    """A page of turns with `parent` among them, which may have been asked from the page of earlier turns."""
    if parent is None or any(turn.id == parent for turn in turns):
        return turns[-SHOWN_TURNS:]
    try:
        parent_turn = await service.read_log(lambda log: log.get(parent))
    except KeyError:
        return turns
    if parent_turn.conversation != conversation:
        return turns
    return [*await _turns(service, conversation, (parent_turn.time, parent_turn.id)), parent_turn][-SHOWN_TURNS:]


def _introduction(service: Service, names: Sequence[str]) -> str:
    """A sentence on who answers, and how far it can be trusted."""
    if service.state != "ready":
        return f"{system_name(service)} is being opened."
    if ASSISTANT not in names:
        return "No documents are indexed here: answers come from a language model alone, and are not checked."
    described = service.current.description.rstrip(".") if service.current else ""
    manner = "written by a language model and verified" if service.grounding.writes else "quoted word for word"
    return (
        f"{described}{'. ' if described else ''}Every sentence is {manner}, and shows where it stands. "
        "Where none seems right enough, it says so and shows the nearest passages."
    )


async def _facts(service: Service, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """The extent of the system's knowledge, as (name, value, where to read more)."""
    if service.state != "ready" or ASSISTANT not in names:
        return []
    documents, passages = await service.read_index(lambda index: (index.document_count(), len(index)))
    facts = [("Documents", count(documents), "/documents"), ("Passages", count(passages), "/documents")]
    decided = calibrated(service)
    if decided is not None:
        facts.append(("Answers from a confidence of", f"{decided.threshold:.2f}", "/evaluation"))
        if decided.certainty.answered:
            measured = f"{decided.certainty.right} of {decided.certainty.answered}"
            where = " (other documents)" if decided.certainty.borrowed else ""
            facts.append(("Measured right", f"{measured}{where}", "/evaluation"))
    languages = [model.name for model in service.models if model.kind == "language"]
    return [*facts, *(("Language model", name, "/system") for name in languages)]


def _examples(service: Service) -> tuple[str, ...]:
    """Questions that the evaluation saw answered rightly; the recipe's own where it saw none."""
    current = service.current
    if current is None or service.workspace is None:
        return ()
    stages = [name for name, use in current.uses.items() if use == "ground.evaluate" and name in current.stages]
    well = _answered_well(service.workspace / current.stages[stages[0]]) if stages else ()
    return well or ((current.question,) if current.question else ())


@lru_cache(maxsize=8)  # an artefact never changes
def _answered_well(folder: Path) -> tuple[str, ...]:
    """Three short questions about different documents of which everything cited was right: those of a person first,
    and of these the surest."""
    if not (folder / ITEMS).is_file():
        return ()  # of a build by an older version
    results = [result for result in read_results(folder)[0] if result.task in GROUPS]
    asked: dict[str, str] = {}
    for result in sorted(results, key=lambda result: (GROUPS.index(result.task), -(result.response.confidence or 0.0))):
        question, cited = str(result.item.prompt), result.response.citations
        shown = bool(cited) and all(is_right(span, result.item.gold) for span in cited)
        if shown and not result.item.fields["withheld"] and len(question) <= LONGEST_EXAMPLE:
            asked.setdefault(cited[0].document, question)
    return tuple(asked.values())[:3]


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
