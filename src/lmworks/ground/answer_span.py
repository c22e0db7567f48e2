"""The span of a sentence that a reader takes for the answer: what a short answer is, and features of the sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmworks.ground.candidate_sentences import Candidate, asks_how
from lmworks.records import Span
from lmworks.retrieve.index import IndexedChunk
from lmworks.retrieve.text_block import UNITS

if TYPE_CHECKING:
    from lmworks.generate.cross_encoder import CrossEncoder

LOWEST = -12.0  # log-odds of what the reader did not read, or finds no span in


@dataclass(frozen=True, slots=True)
class Reading:
    """The likeliest answer within a candidate, how much likelier it is than no answer (nats), and whether no other span
    of the passage is as likely."""

    span: Span
    log_odds: float
    best: bool


SHORTEST = 4.0  # log-odds from which a span is given as a short answer: measured, see docs/measured/grounding.md
WORDS = 10  # of a short answer, at most
UNREAD = Reading(Span("", 0, 0), LOWEST, best=False)


def read(
    question: str,
    candidates: Sequence[Candidate],
    passages: Sequence[IndexedChunk],
    reader: "CrossEncoder",
    count: int,
) -> list[Reading]:
    """A reading of each candidate: of those in the first `count` passages that hold any, `UNREAD` of the others."""
    indices = list(dict.fromkeys(candidate.passage for candidate in candidates))[:count]
    texts = [passages[index].prefix + passages[index].readable for index in indices]
    spans = dict(zip(indices, reader.read(question, texts), strict=True))
    return [_within(unit, passages[unit.passage], spans) if unit.passage in spans else UNREAD for unit in candidates]


def _within(candidate: Candidate, passage: IndexedChunk, spans: dict) -> Reading:
    shift = passage.span.start - len(passage.prefix)  # from the text that was read to the document
    in_passage = spans[candidate.passage]
    in_candidate = in_passage.within(candidate.evidence.start - shift, candidate.evidence.end - shift)
    span = Span(candidate.evidence.document, in_candidate.start + shift, in_candidate.end + shift)
    best = (in_candidate.start, in_candidate.end) == (in_passage.start, in_passage.end)
    return Reading(span, float(np.clip(in_candidate.log_odds, LOWEST, -LOWEST)), best)


def short_answer(
    question: str, candidates: Sequence[Candidate], readings: Sequence[Reading], cited: Sequence[int]
) -> Span | None:
    """The likeliest answer within the sentences that are cited, where it is likely and short enough; None for a
    question that asks for a way to do something, and for code."""
    prose = [index for index in cited if readings and candidates[index].kind not in UNITS]
    index = max(prose, key=lambda index: readings[index].log_odds, default=None)
    if index is None or asks_how(question) or not readings[index].best or readings[index].log_odds < SHORTEST:
        return None
    span, candidate = readings[index].span, candidates[index]
    answer = candidate.text[span.start - candidate.evidence.start : span.end - candidate.evidence.start]
    return span if len(answer.split()) <= WORDS else None
