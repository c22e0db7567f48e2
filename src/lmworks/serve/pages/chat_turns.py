"""A logged interaction as the chat shows it: sentences with their citations, sources in their context, code blocks."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lmworks.artefact import read_manifest
from lmworks.ground.answer_record import nearest_passages, removed_statements
from lmworks.ground.answer_text import Part, answer_parts, short_answer
from lmworks.ground.conformal_risk_control import CALIBRATION, Certainty, read_certainty
from lmworks.records import Document, Feedback, Interaction, Message, Retrieved, Span, Verdict, question_of
from lmworks.retrieve.rendered_text import flowing, rendered, rendered_quote, rendered_title, shortened
from lmworks.serve.pages.cited_documents import cited_documents
from lmworks.serve.pages.page_templates import file_name
from lmworks.serve.service import Service
from lmworks.stages import ANSWERER

SHOWN = 8  # rows of a table of verdicts or passages; the log has all
CONTEXT = 140  # characters shown of the document before and after a quote
_READ = 4 * CONTEXT  # of which these are read: marks are not shown
LONGEST_QUOTE = 400
LONGEST_ANSWER = 20_000  # characters; the log has all


@dataclass(frozen=True, slots=True)
class Source:
    """A passage in its context. `present`: the index still holds the document, so that it can be opened."""

    document: str
    start: int
    end: int
    uri: str
    name: str
    before: str
    quote: str
    after: str
    present: bool
    code: bool


@dataclass(frozen=True, slots=True)
class TurnView:
    """Everything that the template of one turn shows."""

    interaction: Interaction
    question: str
    short: str  # the words that answer by themselves, or ""
    parts: tuple[Part, ...]
    sources: tuple[Source, ...]
    weighed: tuple[str, ...]  # the sentences of the first verdicts
    threshold: float | None  # of confidence, and the certainty there, of the calibration that decided
    certainty: Certainty | None
    shown: int = SHOWN

    @property
    def grounded(self) -> bool:
        return self.interaction.confidence is not None

    @property
    def left_out(self) -> int:
        """Characters of the answer that are not shown."""
        return max(0, len(self.interaction.response) - LONGEST_ANSWER)

    @property
    def written(self) -> bool:
        """Whether a language model wrote the answer."""
        return any(citation.origin == "generated" for citation in self.interaction.citations)

    @property
    def removed(self) -> tuple[Verdict, ...]:
        return removed_statements(self.interaction.verdicts)

    @property
    def thumb(self) -> str | None:
        return (newest := newest_thumb(self.interaction.feedback)) and newest.value

    @property
    def score_names(self) -> tuple[str, ...]:
        """The legs of the search that gave any passage a score, in their order."""
        return tuple(dict.fromkeys(name for passage in self.interaction.retrieved for name in passage.scores))

    @property
    def plain(self) -> str:
        """The answer for the clipboard, with its sources below."""
        sources = "\n".join(f"[{n}] {citation.uri}" for n, citation in enumerate(self.interaction.citations, start=1))
        return f"{self.interaction.response}\n\n{sources}" if sources else self.interaction.response


def newest_thumb(feedback: Sequence[Feedback]) -> Feedback | None:
    """The newest thumb, unless it took an earlier one back."""
    newest = max((event for event in feedback if event.kind == "thumbs"), key=lambda event: event.time, default=None)
    return newest if newest and newest.value else None


async def view_turns(service: Service, interactions: Sequence[Interaction]) -> list[TurnView]:
    """Interactions with the documents that they cite; a document that is gone is shown by what the log kept of it."""
    passages = {interaction.id: _passages(interaction) for interaction in interactions}
    hashes = {span.document for shown in passages.values() for span, _, _ in shown}
    hashes |= {verdict.evidence.document for interaction in interactions for verdict in interaction.verdicts[:SHOWN]}
    documents = await cited_documents(service, hashes)
    calibration = calibrated(service)
    return await asyncio.to_thread(
        lambda: [_view(interaction, passages[interaction.id], documents, calibration) for interaction in interactions]
    )


def messages_of(turns: Sequence[Interaction], parent: str | None, question: str) -> tuple[Message, ...]:
    """The conversation that leads to a new question: the turn `parent`, the one before it, ..., oldest first."""
    by_id = {turn.id: turn for turn in turns}
    path: list[Interaction] = []
    while parent in by_id:
        turn = by_id.pop(parent)
        path.append(turn)
        parent = turn.parent
    messages = [
        message
        for turn in reversed(path)
        if turn.response
        for message in (Message("user", question_of(turn.messages)), Message("assistant", turn.response))
    ]
    return (*messages, Message("user", question))


class Calibrated(NamedTuple):
    """The stage that calibrated the current system, the content hash of what it made, and what that decided."""

    stage: str
    digest: str
    threshold: float
    certainty: Certainty


def calibrated(service: Service) -> Calibrated | None:
    current = service.current
    names = [name for name, use in current.uses.items() if use == ANSWERER] if current else []
    if current is None or service.workspace is None or not names:
        return None
    return Calibrated(names[0], *_decided(service.workspace / current.stages[names[0]]))


@lru_cache(maxsize=8)  # an artefact never changes
def _decided(folder: Path) -> tuple[str, float, Certainty]:
    threshold = json.loads((folder / CALIBRATION).read_text("utf-8"))["threshold"]
    return read_manifest(folder).content_hash, float(threshold), read_certainty(folder)


# ---------------------------------------------------------------------------------------------------------------------


def _passages(interaction: Interaction) -> list[tuple[Span, str, str]]:
    """Span, uri and recorded text of what is shown next to an answer: its citations, or what was nearest."""
    if interaction.abstained:
        nearest = nearest_passages(interaction.retrieved, interaction.verdicts)
        return [(passage.span, passage.uri, passage.text) for passage in nearest]
    return [(claim.evidence, claim.uri, _evidence(claim, interaction.retrieved)) for claim in interaction.citations]


def _evidence(verdict: Verdict, passages: Sequence[Retrieved]) -> str:
    """The text of the evidence, as the log has it: of a statement that was written it is in a passage."""
    if verdict.origin == "quoted":
        return verdict.text
    start, end = verdict.evidence.start, verdict.evidence.end
    held = (passage for passage in passages if passage.span.overlap(verdict.evidence))
    return next((passage.text[start - passage.span.start : end - passage.span.start] for passage in held), "")


def _view(
    interaction: Interaction,
    passages: Sequence[tuple[Span, str, str]],
    documents: dict[str, Document],
    calibration: Calibrated | None,
) -> TurnView:
    decided = calibration if calibration and interaction.lineage.get(calibration.stage) == calibration.digest else None
    parts = answer_parts(interaction.response[:LONGEST_ANSWER], interaction.citations, documents)
    code = {part.number: part.text for part in parts if part.code}
    return TurnView(
        interaction=interaction,
        question=question_of(interaction.messages),
        short=short_answer(interaction.citations, documents),
        parts=parts,
        sources=tuple(
            _source(*passage, documents.get(passage[0].document), code=code.get(number, ""))
            for number, passage in enumerate(passages, start=1)
        ),
        weighed=tuple(rendered_quote(claim.text, claim.evidence, documents) for claim in interaction.verdicts[:SHOWN]),
        threshold=decided.threshold if decided else None,
        certainty=decided.certainty if decided else None,
    )


def _source(span: Span, uri: str, recorded: str, document: Document | None, *, code: str) -> Source:
    """`code` is the citation as the answer shows it where it is code, else ""."""
    if document is None or span.end > len(document.text):
        quote = shortened(code or flowing(recorded), LONGEST_QUOTE)
        fields = span.document, span.start, span.end, uri, file_name(uri)
        return Source(*fields, "", quote, "", present=False, code=bool(code))
    text = document.text
    paragraph = text.rfind("\n\n", 0, span.start) + 1
    stop = text.find("\n\n", span.end)
    before = _line(document, max(paragraph, span.start - _READ), span.start)
    after = _line(document, span.end, min(stop if stop != -1 else len(text), span.end + _READ))
    if len(before) > CONTEXT:
        before = "… " + before[-CONTEXT:].partition(" ")[2]
    if len(after) > CONTEXT:
        after = after[:CONTEXT].rpartition(" ")[0] + " …"
    return Source(
        document=span.document,
        start=span.start,
        end=span.end,
        uri=uri,
        name=rendered_title(document.title, document.extractor) or file_name(uri),
        before="" if code else before,
        quote=shortened(code or flowing(rendered(document, span.start, span.end)), LONGEST_QUOTE),
        after="" if code else after,
        present=True,
        code=bool(code),
    )


def _line(document: Document, start: int, end: int) -> str:
    """A part of a text, rendered on one line; a space at either end stays, which separates it from the quote."""
    text, words = document.text[start:end], " ".join(rendered(document, start, end).split())
    return f"{' ' if text[:1].isspace() else ''}{words}{' ' if words and text[-1:].isspace() else ''}"
