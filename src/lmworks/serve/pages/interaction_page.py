"""The page /log/{id}: one interaction with everything that made it; the log's panel shows the same."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lmworks.config import to_mapping
from lmworks.generate.protocol import SamplingParameters
from lmworks.ground.answer_text import Part, answer_parts, short_answer
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Document, Feedback, Interaction, Message, Retrieved, Verdict
from lmworks.retrieve.rendered_text import rendered_quote
from lmworks.serve.pages import page_templates
from lmworks.serve.pages.chat_turns import newest_thumb
from lmworks.serve.pages.cited_documents import cited_documents, document_link
from lmworks.serve.pages.interaction_parts import PromptPart, ShadedText, Waterfall, prompt_parts, shaded, waterfall
from lmworks.serve.service import Service

LONG = 20_000  # characters of a prompt or an answer shown on the page; the JSON holds all
_ALWAYS = ("max_tokens", "temperature", "seed")
_TONES = {"cited": "good", "abstained": "caution", "unsupported": "bad", "not a quote": "bad", "not an answer": "bad"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that was found, or a candidate sentence, and the page of its document."""

    text: str
    uri: str
    link: str
    scores: tuple[tuple[str, str], ...]
    label: str = ""  # of a sentence: what became of it
    tone: str = ""
    number: int | None = None  # of a citation


@dataclass(frozen=True, slots=True)
class InteractionView:
    """Everything that the page shows; texts are as they may be shown."""

    interaction: Interaction
    question: str
    earlier: tuple[tuple[str, str], ...]  # (role, content) of the messages before the question
    short: str  # the words that answer by themselves, or ""
    answer: tuple[Part, ...]
    left_out: int  # characters of the answer that are not shown
    citations: tuple[Evidence, ...]
    verdicts: tuple[Evidence, ...]
    passages: tuple[Evidence, ...]
    waterfall: Waterfall
    prompt: tuple[PromptPart, ...]
    prompt_left_out: int
    tokens: ShadedText | None
    tokens_note: str
    parameters: tuple[tuple[str, str], ...]
    lineage: tuple[tuple[str, str], ...]
    thumb: Feedback | None
    notes: tuple[Feedback, ...]
    json: str


def interaction_view(
    interaction: Interaction,
    checkpoint: Checkpoint | None = None,
    documents: Mapping[str, Document] | None = None,
) -> InteractionView:
    """`checkpoint` is the one that answered, where it is still served: only its tokenizer can read the token ids.

    `documents`, by hash, tell how what is quoted of them is rendered.
    """
    shown, documents = interaction.response[:LONG], documents or {}
    prompt = interaction.rendered_prompt
    renderer = _renderer(checkpoint, interaction)
    parts = prompt_parts(prompt, interaction.messages, renderer, interaction.prompt_parts)
    tokens, note = _tokens(interaction, checkpoint)
    citations = tuple(_sentence(citation, documents, n) for n, citation in enumerate(interaction.citations, start=1))
    return InteractionView(
        interaction=interaction,
        question=interaction.messages[-1].content[:LONG] if interaction.messages else "",
        earlier=tuple((m.role, m.content[:LONG]) for m in interaction.messages[:-1]),
        short=short_answer(interaction.citations, documents),
        answer=answer_parts(shown, interaction.citations, documents) if citations else (Part(shown),) if shown else (),
        left_out=max(0, len(interaction.response) - LONG),
        citations=citations,
        verdicts=tuple(_sentence(verdict, documents) for verdict in interaction.verdicts),
        passages=tuple(_passage(passage, documents) for passage in interaction.retrieved),
        waterfall=waterfall(interaction.timings),
        prompt=_first(parts, LONG),
        prompt_left_out=max(0, len(prompt) - LONG),
        tokens=tokens,
        tokens_note=note,
        parameters=_parameters(interaction),
        lineage=tuple(interaction.lineage.items()),
        thumb=newest_thumb(interaction.feedback),
        notes=tuple(note for note in interaction.feedback if note.kind == "note"),
        json=as_json(interaction),
    )


def as_json(interaction: Interaction) -> str:
    """All of it; the query's embedding as its length, since nobody reads 384 numbers."""
    fields = to_mapping(interaction)
    fields["query_embedding"] = f"{len(interaction.query_embedding)} numbers" if interaction.query_embedding else None
    return json.dumps(fields, indent=1, ensure_ascii=False)


def _first(parts: Sequence[PromptPart], length: int) -> tuple[PromptPart, ...]:
    result: list[PromptPart] = []
    for part in parts:
        if length <= 0:
            break
        result.append(replace(part, text=part.text[:length]))
        length -= len(part.text)
    return tuple(result)


def _renderer(checkpoint: Checkpoint | None, interaction: Interaction) -> Callable[[Sequence[Message]], str] | None:
    if checkpoint is None or interaction.operation != "chat":
        return None
    return lambda messages: checkpoint.chat.render(messages, True, interaction.tools).text


def _tokens(interaction: Interaction, checkpoint: Checkpoint | None) -> tuple[ShadedText | None, str]:
    """The shaded tokens, or why there are none."""
    if not interaction.token_log_probabilities:
        return None, "The log holds no token probabilities of this answer."
    if checkpoint is None:
        return None, "The model that wrote this is not served any more, so its tokens cannot be read."

    def decode(ids: Sequence[int]) -> str:
        return checkpoint.required_tokenizer.decode(ids, skip_special=False)

    text = shaded(interaction.token_ids, interaction.token_log_probabilities, decode)
    return text, "" if text else "The log does not hold one probability for each token of this answer."


def _sentence(verdict: Verdict, documents: Mapping[str, Document], number: int | None = None) -> Evidence:
    scores = [("relevance", f"{verdict.relevance:.2f}")]
    if verdict.support is not None:
        scores.append(("support", f"{verdict.support:.2f}"))
    scores.append(("", verdict.origin))
    text = rendered_quote(verdict.text, verdict.evidence, documents)
    return Evidence(
        text, verdict.uri, document_link(verdict.evidence), tuple(scores),
        verdict.verdict, _TONES.get(verdict.verdict, ""), number,
    )  # fmt: skip


def _passage(passage: Retrieved, documents: Mapping[str, Document]) -> Evidence:
    scores = tuple(
        (name.replace("_", " "), f"{value:.0f}" if name.endswith("rank") else f"{value:.3f}")
        for name, value in passage.scores.items()
    )
    text = rendered_quote(passage.text, passage.span, documents)
    return Evidence(text, passage.uri, document_link(passage.span), scores)


def _parameters(interaction: Interaction) -> tuple[tuple[str, str], ...]:
    """The sampling parameters that matter for every answer, and those that were not the default."""
    usual = to_mapping(SamplingParameters())
    shown = {
        name: value
        for name, value in interaction.parameters.items()
        if name in _ALWAYS or name not in usual or value != usual[name]
    }
    if interaction.seed is not None:
        shown["seed"] = interaction.seed
    return tuple((name, _value(value)) for name, value in shown.items())


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(to_mapping(value), ensure_ascii=False)


def checkpoint_of(service: Service, fingerprint: str) -> Checkpoint | None:
    """The served language model with this fingerprint."""
    if service.state != "ready":
        return None
    for model in service.models:
        if model.kind == "language" and model.fingerprint == fingerprint:
            return service.models.language(model.name).checkpoint
    return None


def router(service: Service) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/log/{identifier}")
    async def one(identifier: str, filter: str = "") -> HTMLResponse:  # noqa: A002
        try:
            logged = await service.read_log(lambda reader: reader.get(identifier))
        except KeyError:
            text = f"The log holds no interaction {identifier[:40]}. It may have been deleted after its retention time."
            return page_templates.error_page(service, 404, "No such interaction", text, "/log")
        before, after = await service.read_log(lambda reader: reader.neighbours(logged))
        cited = {v.evidence.document for v in logged.verdicts} | {passage.span.document for passage in logged.retrieved}
        documents = await cited_documents(service, cited)
        view = await asyncio.to_thread(interaction_view, logged, checkpoint_of(service, logged.model), documents)
        return page_templates.page(
            service,
            "interaction.html",
            active="log",
            view=view,
            filter=filter,
            turns={"before": before, "after": after},
            names={model.fingerprint: model.name for model in service.models},
        )

    return routes
