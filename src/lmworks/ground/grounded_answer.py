"""From a question to an answer that is grounded by construction, or to an honest "I don't know".

passages    found by the search
candidates  the sentences of the passages
relevance   P(the sentence answers the question), from features whose weights are calibrated
verdicts    a quote must equal its span; repeats go
decision    the best sentences that are left, if P(the answer is right) reaches its threshold; else abstain
writing     where there is a writer, it is then asked to answer from the passages; what it says is verified
"""

import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.config import from_mapping
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.text_embedding import TextEncoder
from lmworks.ground.answer_record import nearest_passages
from lmworks.ground.answer_span import Reading, read, short_answer
from lmworks.ground.answer_text import answer_text
from lmworks.ground.candidate_sentences import (
    Candidate,
    asks_how,
    asks_what,
    candidate_sentences,
    example_for,
    opening_of,
    with_subject,
)
from lmworks.ground.config import AnswerConfig
from lmworks.ground.conformal_risk_control import CALIBRATION, Certainty
from lmworks.ground.features import OF_ROLE, feature_names, measure, ranking_names
from lmworks.ground.follow_up import standalone
from lmworks.ground.phase_timer import Listener, Phases
from lmworks.ground.selection import Rules, Selection, select
from lmworks.ground.written_answer import Engines, Source, Writer, answer_lines
from lmworks.model.config import LanguageModelHead
from lmworks.records import Answer, Question, Retrieved, Span, Verdict
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.named import WHOLE_NAME
from lmworks.retrieve.pointwise_reranker import PointwiseReranker
from lmworks.retrieve.query_expansion import check_model, completer, expanded
from lmworks.retrieve.search import first_of, fused, rerank
from lmworks.statistics.logistic_regression import Logistic

UNSUPPORTED = "I don't know: what was written is not in the passages, or no answer. The nearest passages may hold it."
UNKNOWN = "I don't know: nothing found is sure enough to be the answer. The nearest passages may hold it."


@dataclass(frozen=True, slots=True)
class Calibration:
    """The decisions that were made on the calibration split."""

    answer: AnswerConfig
    relevance: Logistic
    rules: Rules
    confidence: Logistic
    threshold: float  # confidence below which the system abstains
    certainty: Certainty = field(default_factory=Certainty)
    roles: tuple[str, ...] = ()  # of the models whose features are weighed


@dataclass(frozen=True, slots=True)
class Evidence:
    """Passages and candidate sentences of one question, with their features; nothing is decided yet.

    `features` is (candidates, features), columns as in `features.feature_names(roles)`; `query_embedding` is what
    the cosines were taken with, (width,) float32. `readings` are the candidates' where there is a reader, `readable`
    the texts of the passages as a model may read them, see `IndexedChunk.readable`.
    """

    question: str
    passages: tuple[Retrieved, ...]
    candidates: tuple[Candidate, ...]
    features: np.ndarray
    query_embedding: np.ndarray | None = None
    roles: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    readable: tuple[str, ...] = ()


def confidence_names(roles: Collection[str]) -> tuple[str, ...]:
    """The features of a confidence where there are models in these roles."""
    return (*feature_names(roles), "relevance", "margin")


def filters_of(question: Question) -> Filters:
    """Filters under which an evaluation question is asked."""
    return Filters(exclude=frozenset(question.excluded), hidden=question.hidden)


class Finder:
    """Collects evidence: search, candidate sentences, features. `heads` are models by role: those that read pairs, and
    as `expander` the function that writes what the search adds to a question. `engines` run language models."""

    def __init__(
        self, index: Index, encoder: TextEncoder, config: AnswerConfig, heads: Mapping[str, Any] | None = None
    ) -> None:
        self.index = index
        self.encoder = encoder
        self.config = config
        self.heads = dict(heads or {})
        self.engines = Engines()

    def evidence(self, question: str, *, filters: Filters = EVERYTHING, phases: Phases | None = None) -> Evidence:
        """Quoted candidates for a question, from what the filters let through; ValueError for an empty question."""
        if not question.strip():
            raise ValueError("the question is empty")
        phases = phases or Phases()
        question = question.encode("utf-8", "replace").decode()  # bytes that are no text cannot be tokenised
        phases.begin("search")
        queries = expanded(self.index, question, self.encoder, self.config.search, self.heads.get("expander"))
        hits = fused(self.index, queries, self.config.search, filters)
        if reranker := self.heads.get("reranker"):
            phases.begin("rerank")
            hits = rerank(self.index, question, hits, self.config.search.rerank, reranker)
        hits = first_of(self.index, hits, self.config.search)
        chunks = self.index.chunks(hits.keys)
        candidates = candidate_sentences(question, chunks, hits.scores, self.config.minimum_characters)
        readings: Sequence[Reading] = ()
        if reader := self.heads.get("reader"):
            phases.begin("read")
            readings = read(question, candidates, chunks, reader, self.config.read)
        phases.begin("measure")
        roles = tuple(role for role in self.heads if role in OF_ROLE)
        features = measure(queries[0], candidates, chunks, hits.scores, self.encoder, self.index, roles, readings)
        passages = tuple(
            Retrieved(chunk.id, chunk.span, chunk.uri, chunk.text, scores)
            for chunk, scores in zip(chunks, hits.scores, strict=True)
        )
        texts = tuple(chunk.readable for chunk in chunks)
        vector = queries[0].vector
        return Evidence(question, passages, tuple(candidates), features, vector, roles, tuple(readings), texts)


def decide(evidence: Evidence, calibration: Calibration, is_quote: Callable[[Candidate], bool]) -> Answer:
    """A pure function of the evidence; `is_quote` says whether a candidate stands in its document word for word.

    The answer's `id`, `lineage` and `timings` are left for the caller to fill.
    """
    model = calibration.relevance
    relevance = model.probability(evidence.features[:, : len(model.names)])  # (candidates,): that each one answers
    selection = select(evidence.candidates, relevance, calibration.rules, is_quote)
    confidence = 0.0
    if selection.chosen:
        features = confidence_features(evidence, relevance, selection.chosen[0])
        confidence = float(calibration.confidence.probability(features)[0])
    abstained = not confidence or confidence < calibration.threshold
    return _answer(evidence, selection, confidence, is_quote, abstained=abstained)


def confidence_features(evidence: Evidence, relevance: np.ndarray, best: int) -> np.ndarray:
    """(1, features): those of the best sentence, its relevance, and how far that is above the next one's."""
    other_relevance = np.delete(relevance, best)
    margin = relevance[best] - (other_relevance.max() if len(other_relevance) else 0.0)
    return np.concatenate([evidence.features[best], [relevance[best], margin]])[None]


def _answer(
    evidence: Evidence,
    selection: Selection,
    confidence: float,
    is_quote: Callable[[Candidate], bool],
    *,
    abstained: bool,
) -> Answer:
    indices = list(selection.chosen)
    verdict_of = dict(zip(selection.order, selection.verdicts, strict=True))
    passages = [evidence.passages[evidence.candidates[index].passage] for index in indices[:1]]
    named = any(passage.scores.get("named") == WHOLE_NAME for passage in passages)
    defined = named and asks_what(evidence.question)
    if defined:
        indices = sorted({opening_of(evidence.candidates, indices[0]), *indices})  # a definition before its details
    if asks_how(evidence.question) or defined:
        indices += example_for(evidence.candidates, indices)
    indices = [index for index in indices if index in selection.chosen or is_quote(evidence.candidates[index])]
    outcome = "abstained" if abstained else "cited"
    widened = {index: _with_subject(evidence, index, verdict_of[index], outcome, is_quote) for index in indices}
    for index in indices:  # what another citation covers is not said twice
        spans = (widened[other].evidence for other in indices if other != index)
        if any(span.overlap(widened[index].evidence) == len(widened[index].text) for span in spans):
            verdict_of[index] = replace(verdict_of[index], verdict="repeated")
    indices = [index for index in indices if verdict_of[index].verdict != "repeated"]
    cited = [widened[index] for index in indices]
    uncited = [verdict_of[index] for index in selection.order if index not in indices]
    if not abstained and (short := short_answer(evidence.question, evidence.candidates, evidence.readings, indices)):
        cited = [replace(verdict, short=short) if verdict.evidence.overlap(short) else verdict for verdict in cited]
    citations = () if abstained else tuple(cited)
    return Answer(
        id="",
        question=evidence.question,
        text=UNKNOWN if abstained else answer_text(citations, evidence.candidates, evidence.passages),
        citations=citations,
        confidence=confidence,
        abstained=abstained,
        nearest=nearest_passages(evidence.passages, cited),
        verdicts=(*cited, *uncited),
        lineage={},
    )


def _with_subject(
    evidence: Evidence,
    index: int,
    verdict: Verdict,
    outcome: Literal["cited", "abstained"],
    is_quote: Callable[[Candidate], bool],
) -> Verdict:
    """The verdict on a citation, which covers the sentence before it where it would name no subject."""
    candidate = evidence.candidates[index]
    first = evidence.candidates[with_subject(evidence.candidates, index)]
    span = Span(candidate.evidence.document, first.evidence.start, candidate.evidence.end)
    passage = evidence.passages[candidate.passage]
    text = passage.text[span.start - passage.span.start : span.end - passage.span.start]
    if text != candidate.text and not is_quote(replace(candidate, text=text, evidence=span)):
        text, span = candidate.text, candidate.evidence
    return replace(verdict, verdict=outcome, text=text, evidence=span)


def sources_of(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Source]:
    """The passages for a writer, each with the relevance of the best candidate of it that there is a verdict on."""
    headings = {candidate.passage: candidate.heading for candidate in reversed(evidence.candidates)}
    return [
        Source(
            replace(passage, text=evidence.readable[index]),
            headings.get(index, ""),
            max((verdict.relevance for verdict in verdicts if verdict.evidence.overlap(passage.span)), default=0.0),
        )
        for index, passage in enumerate(evidence.passages)
    ]


def as_written(extracted: Answer, statements: Sequence[Verdict], failure: str = "") -> Answer:
    """The answer that is made of verified statements; an abstention where none is left.

    `extracted` is the one in quotes, whose verdicts come after those on the statements. It stays where a `failure` of
    the writer came before the first of them, or where what was written answers another question. The confidence is
    that of the best statement: to answer, and to be supported.
    """
    cited = tuple(verdict for verdict in statements if verdict.verdict == "cited")
    if not cited and (failure or any(verdict.verdict == "not an answer" for verdict in statements)):
        return replace(extracted, verdicts=(*statements, *extracted.verdicts), failure=failure)
    chosen = "not needed" if cited else "abstained"
    quotes = (
        replace(old, verdict=chosen) if old.verdict in ("cited", "abstained") else old for old in extracted.verdicts
    )
    return replace(
        extracted,
        text="".join(answer_lines(cited)) or (UNSUPPORTED if statements else UNKNOWN),
        citations=cited,
        confidence=max((v.relevance * (1.0 if v.support is None else v.support) for v in cited), default=0.0),
        abstained=not cited,
        verdicts=(*statements, *quotes),
        failure=failure,
    )


class Answerer:
    """Answers questions over one index with one calibration, in quotes or in what `writer` writes."""

    def __init__(self, finder: Finder, calibration: Calibration, writer: Writer | None = None) -> None:
        self.finder = finder
        self.calibration = calibration
        self.writer = writer

    def is_quote(self, candidate: Candidate) -> bool:
        """Whether the document, read again, says exactly this at the span."""
        return self.finder.index.document(candidate.evidence.document).quote(candidate.evidence) == candidate.text

    def answer(
        self, question: str, *, filters: Filters = EVERYTHING, lineage: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer from the documents that the filters let through. Raises ValueError for an empty question."""
        return self.respond(question, filters=filters, lineage=lineage)[0]

    def respond(
        self,
        question: str,
        *,
        filters: Filters = EVERYTHING,
        lineage: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        say: Listener | None = None,
        queued: float | None = None,
        earlier: Sequence[str] = (),
    ) -> tuple[Answer, Evidence]:
        """An answer with the evidence it was decided from.

        `earlier` are the questions of the conversation before this one, which may lean on them. `listener` gets the
        name of each phase as it begins, `say` each piece of a written answer once it is verified: its text begins with
        them. `queued` are seconds that the question waited before.
        """
        phases = Phases(listener, queued=queued)
        asked = standalone(question, earlier)
        evidence = self.finder.evidence(asked, filters=filters, phases=phases)
        evidence = replace(evidence, question=question)
        phases.begin("decide")
        answer = decide(evidence, self.calibration, self.is_quote)
        if (writer := self.writer) and answer.confidence >= writer.config.floor * self.calibration.threshold:
            sources = sources_of(evidence, answer.verdicts)
            written, failure = writer.write(asked, sources, phases, say) if sources else ((), "")
            answer = as_written(answer, written, failure)
        seconds = phases.end()
        return replace(answer, id=secrets.token_hex(8), lineage=dict(lineage or {}), timings=seconds), evidence


def load_answerer(index: Path, calibration: Path, models: Mapping[str, str]) -> Answerer:
    """Open an index and a calibration (folders of artefacts) with the models of their recipe.

    Raises ValueError for a calibration whose weights are of other features than these, or of a model that the recipe
    does not name.
    """
    path = calibration / CALIBRATION
    decided = from_mapping(Calibration, json.loads(path.read_text("utf-8")), [str(path)])
    names = ranking_names(decided.roles), confidence_names(decided.roles)
    if (decided.relevance.names, decided.confidence.names) != names:
        raise ValueError(f"{path} was made by another version of lmworks: rebuild it (lmworks build)")
    if missing := sorted({*decided.roles} - models.keys()):
        raise ValueError(f"{path} was made with a {' and a '.join(missing)}: name it in [models], or rebuild it")
    return Answerer(open_finder(index, models, decided.answer, decided.roles), decided)


def open_finder(
    index: Path, models: Mapping[str, str], config: AnswerConfig, roles: Collection[str] = tuple(OF_ROLE)
) -> Finder:
    """An index with its encoder, and the models of `roles` as far as they are named."""
    check_model(config.search, models)
    encoder = TextEncoder(load(models["embedder"]))
    roles = (*roles, "expander") if config.search.expands else roles
    finder = Finder(Index.open(index, encoder.fingerprint), encoder, config)
    finder.heads |= {role: _head(role, models[role], finder.engines) for role in roles if role in models}
    return finder


def _head(role: str, path: str, engines: Engines) -> Any:
    """The model of a role, as a `Finder` uses it; a language model can be the reranker as well."""
    if role == "expander":
        return completer(lambda: engines[path])
    checkpoint = load(path)
    if role == "reranker" and isinstance(checkpoint.config.head, LanguageModelHead):
        return PointwiseReranker(lambda: engines[path], checkpoint)
    return CrossEncoder(checkpoint)
