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
    places = list(dict.fromkeys(candidate.passage for candidate in candidates))[:count]
    texts = [passages[place].prefix + passages[place].readable for place in places]
    spans = dict(zip(places, reader.read(question, texts), strict=True))
    return [_within(one, passages[one.passage], spans) if one.passage in spans else UNREAD for one in candidates]


def _within(candidate: Candidate, passage: IndexedChunk, spans: dict) -> Reading:
    shift = passage.span.start - len(passage.prefix)  # from the text that was read to the document
    whole = spans[candidate.passage]
    found = whole.within(candidate.evidence.start - shift, candidate.evidence.end - shift)
    span = Span(candidate.evidence.document, found.start + shift, found.end + shift)
    best = (found.start, found.end) == (whole.start, whole.end)
    return Reading(span, float(np.clip(found.log_odds, LOWEST, -LOWEST)), best)


def short_answer(
    question: str, candidates: Sequence[Candidate], readings: Sequence[Reading], cited: Sequence[int]
) -> Span | None:
    """The likeliest answer within the sentences that are cited, where it is likely and short enough; None for a
    question that asks for a way to do something, and for code."""
    prose = [place for place in cited if readings and candidates[place].kind not in UNITS]
    place = max(prose, key=lambda place: readings[place].log_odds, default=None)
    if place is None or asks_how(question) or not readings[place].best or readings[place].log_odds < SHORTEST:
        return None
    span, whole = readings[place].span, candidates[place]
    said = whole.text[span.start - whole.evidence.start : span.end - whole.evidence.start]
    return span if len(said.split()) <= WORDS else None
