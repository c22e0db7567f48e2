"""From a question to an answer that is grounded by construction, or to an honest "I don't know".

passages    found by dense and lexical search
candidates  the sentences of the passages; the language model's own where calibration found them good enough
relevance   P(the sentence answers the question), from features whose weights are calibrated
verdicts    a quote must equal its span; a drafted sentence must gain likelihood from its passage; repeats go
decision    the best sentences that are left, if the calibrated confidence reaches its threshold; else abstain
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmworks.config import from_mapping
from lmworks.generate.protocol import Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.ground.answer_record import NEAREST
from lmworks.ground.candidate_sentences import Candidate, Sentences
from lmworks.ground.config import AnswerConfig
from lmworks.ground.draft_sentences import draft
from lmworks.ground.features import measure
from lmworks.ground.logistic_regression import Logistic
from lmworks.ground.phase_timer import Listener, Phases
from lmworks.ground.selection import Rules, select
from lmworks.model.checkpoint import load
from lmworks.records import Answer, Retrieved, Verdict
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.index import Filters, Index
from lmworks.retrieve.rendered_text import flowing
from lmworks.retrieve.search import search

if TYPE_CHECKING:
    from lmworks.generate.engine import Engine
    from lmworks.generate.engine_worker import EngineWorker

UNKNOWN = "I don't know: the documents do not seem to answer this."
RANKING = 3  # the first features are of the sentence, and rank; all of them together give the confidence
CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The decisions that were made on the calibration split."""

    answer: AnswerConfig
    relevance: Logistic
    rules: Rules
    drafts: bool  # whether the language model's own sentences are candidates
    confidence: Logistic
    threshold: float  # confidence below which the system abstains


@dataclass(frozen=True, slots=True)
class Evidence:
    """Passages and candidate sentences of one question, with their features; nothing is decided yet.

    `features` is (candidates, 5); `query_embedding` is the question's vector, (width,) float32, None where evidence was
    read back from a file.
    """

    question: str
    passages: tuple[Retrieved, ...]
    candidates: tuple[Candidate, ...]
    features: np.ndarray
    query_embedding: np.ndarray | None = None


class Finder:
    """Collects evidence: search, candidate sentences, features, and drafts when asked for."""

    def __init__(self, index: Index, encoder: TextEncoder, models: Mapping[str, str], config: AnswerConfig) -> None:
        self.index = index
        self.encoder = encoder
        self.config = config
        self._models = models
        self._sentences = Sentences(index.document, config.minimum_characters)
        self._last_passages: tuple[tuple[str, ...], list[np.ndarray]] = ((), [])
        self._last_query: np.ndarray | None = None

    @cached_property
    def engine(self) -> "Engine | EngineWorker":
        """The language model, loaded when it is first needed: an answer of quotes alone does without it.

        A server that runs the model already sets its worker here.
        """
        from lmworks.generate.engine import Engine

        return Engine(load(self._models["assistant"]))

    def evidence(self, question: str, *, excluded: Sequence[str] = (), phases: Phases | None = None) -> Evidence:
        """Quoted candidates for a question, without the documents `excluded` (by hash); ValueError for an empty one."""
        if not question.strip():
            raise ValueError("the question is empty")
        phases = phases or Phases()
        question = question.encode("utf-8", "replace").decode()  # bytes that are no text cannot be tokenised
        phases.begin("search")
        passages = self.passages(question, self.config.search, Filters(exclude=frozenset(excluded)))
        phases.begin("measure")
        return replace(
            self._measured(question, passages, self._sentences.of(passages)), query_embedding=self._last_query
        )

    def passages(self, question: str, config: SearchConfig, filters: Filters) -> tuple[Retrieved, ...]:
        """The passages that the search finds, best first."""
        encode, encode_tokens = self._encode, self._encode_tokens
        return tuple(search(self.index, question, encode, config, filters, encode_tokens=encode_tokens))

    def _encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """The encoder's; the last question's vector is remembered, for the log."""
        vectors = self.encoder.encode(texts, role)
        if role == "query":
            self._last_query = vectors[0]
        return vectors

    def _encode_tokens(self, texts: Sequence[str], role: Role) -> list[np.ndarray]:
        """The encoder's; the last passages are remembered, for an evaluation that looks deeper into the same search.

        They are remembered as a whole: one by one they would share their batches with others each time, and the last
        digits of an answer would depend on the questions before it.
        """
        if role == "query":
            return self.encoder.encode_tokens(texts, role)
        if self._last_passages[0] != tuple(texts):
            self._last_passages = (tuple(texts), self.encoder.encode_tokens(texts, role))
        return self._last_passages[1]

    def with_drafts(self, found: Sequence[Evidence]) -> list[Evidence]:
        """The same evidence with the language model's own sentences added; all drafts are made in one batch."""
        items = [(one.question, one.passages, one.candidates) for one in found]
        drafts = draft(items, self.engine, self.engine.checkpoint.required_tokenizer, self.config)
        return [
            replace(
                self._measured(one.question, one.passages, [*one.candidates, *own]), query_embedding=one.query_embedding
            )
            for one, own in zip(found, drafts, strict=True)
        ]

    def _measured(self, question: str, passages: tuple[Retrieved, ...], candidates: Sequence[Candidate]) -> Evidence:
        features = measure(question, candidates, passages, self.encoder, self.index)
        return Evidence(question, passages, tuple(candidates), features)


def decide(evidence: Evidence, calibration: Calibration, is_quote: Callable[[Candidate], bool]) -> Answer:
    """A pure function of the evidence; `is_quote` says whether a candidate stands in its document word for word.

    The answer's `id`, `lineage` and `timings` are left for the caller to fill.
    """
    relevance = calibration.relevance.probability(evidence.features[:, :RANKING])
    selection = select(evidence.candidates, relevance, calibration.rules, is_quote)
    best = evidence.features[list(selection.chosen[:1])]
    confidence = float(calibration.confidence.probability(best)[0]) if len(best) else 0.0
    abstained = not len(best) or confidence < calibration.threshold
    return _answer(evidence, selection.verdicts, confidence, abstained=abstained)


def _answer(evidence: Evidence, verdicts: Sequence[Verdict], confidence: float, *, abstained: bool) -> Answer:
    if abstained:
        verdicts = [replace(one, verdict="abstained") if one.verdict == "cited" else one for one in verdicts]
    citations = tuple(verdict for verdict in verdicts if verdict.verdict == "cited")
    sentences = [f"{flowing(citation.text)} [{number}]" for number, citation in enumerate(citations, start=1)]
    return Answer(
        id="",
        question=evidence.question,
        text=UNKNOWN if abstained else "\n".join(sentences),
        citations=citations,
        confidence=confidence,
        abstained=abstained,
        nearest=evidence.passages[:NEAREST],
        verdicts=tuple(verdicts),
        lineage={},
    )


class Answerer:
    """Answers questions over one index with one calibration."""

    def __init__(self, finder: Finder, calibration: Calibration) -> None:
        self.finder = finder
        self.calibration = calibration

    def is_quote(self, candidate: Candidate) -> bool:
        """Whether the document, read again, says exactly this at the span."""
        return self.finder.index.document(candidate.evidence.document).quote(candidate.evidence) == candidate.text

    def evidence(self, question: str, *, excluded: Sequence[str] = (), phases: Phases | None = None) -> Evidence:
        """The evidence that an answer is decided from: quotes, and drafts where calibration found them good enough."""
        phases = phases or Phases()
        evidence = self.finder.evidence(question, excluded=excluded, phases=phases)
        if self.calibration.drafts:
            phases.begin("draft")
            (evidence,) = self.finder.with_drafts([evidence])
        return evidence

    def answer(
        self, question: str, *, excluded: Sequence[str] = (), lineage: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer from the documents but those `excluded` by hash. Raises ValueError for an empty question."""
        return self.respond(question, excluded=excluded, lineage=lineage)[0]

    def respond(
        self,
        question: str,
        *,
        excluded: Sequence[str] = (),
        lineage: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        queued: float | None = None,
    ) -> tuple[Answer, Evidence]:
        """An answer with the evidence it was decided from.

        `listener` is told the name of each phase as it begins; `queued` are seconds that the question waited before.
        """
        phases = Phases(listener, queued=queued)
        evidence = self.evidence(question, excluded=excluded, phases=phases)
        phases.begin("decide")
        answer = decide(evidence, self.calibration, self.is_quote)
        seconds = phases.end()
        return replace(answer, id=secrets.token_hex(8), lineage=dict(lineage or {}), timings=seconds), evidence


def load_answerer(index: Path, calibration: Path, models: Mapping[str, str]) -> Answerer:
    """Open an index and a calibration (folders of artefacts) with the models of their recipe."""
    path = calibration / CALIBRATION
    decided = from_mapping(Calibration, json.loads(path.read_text("utf-8")), [str(path)])
    return Answerer(open_finder(index, models, decided.answer), decided)


def open_finder(index: Path, models: Mapping[str, str], config: AnswerConfig) -> Finder:
    encoder = TextEncoder(load(models["embedder"]))
    return Finder(Index.open(index, encoder.fingerprint), encoder, models, config)
