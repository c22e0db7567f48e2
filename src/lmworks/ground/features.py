"""Features of candidate sentences, measured before anything is decided.

    late_interaction          mean over the question's tokens of their highest cosine with a token of the sentence
    overlap                   share of the question's words that the sentence has under its headings, each weighted by
                              its rarity
    late_overlap              late interaction times overlap: each without the other says little
    passage                   how well the sentence's passage was ranked: its fused score
    length                    ln of its characters
    code                      1 for code or a table, 0 for a sentence
    opening                   1 for the sentence that a section begins with, which tells what the section is about
    definition                1 for such a sentence where the question asks what something is or does
    named                     how well the passage defines a name that the question has, in [0, 1]
    passage_late_interaction  the highest late interaction of the question and any whole passage found
    passage_similarity        the highest cosine of the question and any whole passage found
    passage_gap               how far the highest late interaction is above the second highest

With a reader, of the passages that it reads:

    span                      log-odds of the sentence's likeliest answer against no answer
    span_gap                  how far these are below the highest of any sentence, 0 for that one
    best_span                 1 where no other sentence of the passage has a likelier one
    highest_span              the highest of these log-odds

With a reranker:

    passage_relevance         its logit for the sentence's passage
    highest_relevance         the highest logit of any passage found

A sentence's tokens are a slice of its chunk's, which the index holds: the encoder read them in their context. Words are
compared as the lexical index does it (stemmed, without case and accents), by the same tokenizer.
"""

import math
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

import numpy as np

from lmworks.ground.answer_span import LOWEST, Reading
from lmworks.ground.candidate_sentences import Candidate, asks_what
from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.retrieve.catalogue import TOKENIZER
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.index import Index, IndexedChunk
from lmworks.retrieve.late_interaction import late_interaction
from lmworks.retrieve.named import WHOLE_NAME
from lmworks.retrieve.query_expansion import Query
from lmworks.retrieve.text_block import UNITS

RANKING = (  # of the sentence
    *("late_interaction", "overlap", "late_overlap", "passage", "length"),
    *("code", "opening", "definition", "named"),
)
NAMES = (*RANKING, "passage_late_interaction", "passage_similarity", "passage_gap")
OF_ROLE = {  # role of a model -> features of the sentence, and of all that was found, that come with it
    "reader": (("span", "span_gap", "best_span"), ("highest_span",)),
    "reranker": (("passage_relevance",), ("highest_relevance",)),
}


def ranking_names(roles: Collection[str]) -> tuple[str, ...]:
    """The features of a sentence where there are models in these roles."""
    return (*RANKING, *(name for role, (names, _) in OF_ROLE.items() if role in roles for name in names))


def feature_names(roles: Collection[str]) -> tuple[str, ...]:
    """All features where there are models in these roles: those of the sentence come first."""
    further = (name for role, (_, names) in OF_ROLE.items() if role in roles for name in names)
    return (*ranking_names(roles), *NAMES[len(RANKING) :], *further)


def measure(
    query: Query,
    candidates: Sequence[Candidate],
    passages: Sequence[IndexedChunk],
    scores: Sequence[Mapping[str, float]],
    encoder: Encoder,
    index: Index,
    roles: Collection[str] = (),
    readings: Sequence[Reading] = (),
) -> np.ndarray:
    """(candidates, features) float64, columns as in `feature_names(roles)`; `scores` are those that the search gave the
    passages, `readings` are of the candidates where there is a reader."""
    names = feature_names(roles)
    if not candidates:
        return np.zeros((0, len(names)))
    opening = np.array(_opening(candidates, passages))
    tokens = sentence_tokens(candidates, passages, encoder, index)
    late = late_interaction(query.tokens, tokens)
    overlap = word_overlap(query.text, [candidate.in_context for candidate in candidates], index)
    highest, second, *_ = *sorted((scored["late_interaction"] for scored in scores), reverse=True), 0.0
    spans = np.array([reading.log_odds for reading in readings])
    relevance = [scored.get("relevance", LOWEST) for scored in scores]
    columns = {
        "late_interaction": late,
        "overlap": overlap,
        "late_overlap": late * overlap,
        "passage": [scores[candidate.passage]["fused"] for candidate in candidates],
        "length": [math.log(len(candidate.text)) for candidate in candidates],
        "code": [candidate.kind in UNITS for candidate in candidates],
        "opening": opening,
        "definition": opening & asks_what(query.text),
        "named": [scores[candidate.passage].get("named", 0.0) / WHOLE_NAME for candidate in candidates],
        "passage_late_interaction": highest,
        "passage_similarity": max(scored["dense"] for scored in scores),
        "passage_gap": highest - second,
        "span": spans,
        "span_gap": spans - spans.max(initial=LOWEST),
        "best_span": [reading.best for reading in readings],
        "highest_span": spans.max(initial=LOWEST),
        "passage_relevance": [relevance[candidate.passage] for candidate in candidates],
        "highest_relevance": max(relevance),
    }
    rows = [np.broadcast_to(np.asarray(columns[name], np.float64), len(candidates)) for name in names]
    return np.column_stack(rows)


def sentence_tokens(
    candidates: Sequence[Candidate], passages: Sequence[IndexedChunk], encoder: Encoder, index: Index
) -> list[np.ndarray]:
    """For each candidate (tokens, stored width) float32: a slice of its passage's."""
    stored = index.token_vectors([passage.key for passage in passages])
    offsets = encoder.token_offsets([passage.prefix + passage.text for passage in passages])
    result: list[np.ndarray] = []
    for candidate in candidates:
        passage = passages[candidate.passage]
        shift = len(passage.prefix) - passage.span.start
        start, end = candidate.evidence.start + shift, candidate.evidence.end + shift
        spans = offsets[candidate.passage]  # (tokens, 2)
        result.append(stored[candidate.passage][(spans[:, 0] < end) & (spans[:, 1] > start)])
    return result


def _opening(candidates: Sequence[Candidate], passages: Sequence[IndexedChunk]) -> list[bool]:
    """For each candidate whether it is the first one in prose of a passage that begins a section."""
    firsts: dict[int, int] = {}
    for number, candidate in enumerate(candidates):
        if candidate.kind not in UNITS and passages[candidate.passage].opens_section:
            firsts.setdefault(candidate.passage, number)
    return [firsts.get(candidate.passage) == number for number, candidate in enumerate(candidates)]


def word_overlap(question: str, texts: Sequence[str], index: Index) -> np.ndarray:
    """(texts,) shares in [0, 1] of the question's words that each text has, weighted by inverse chunk frequency.

    A word that no chunk of the index has weighs most: a text can never make up for it. A question of stop words alone
    shares nothing with any text.
    """
    words = {word.lower() for word in re.findall(r"\w+", question)} - STOP_WORDS
    size = len(index)  # inverse chunk frequency, never negative
    weights = {w: max(0.0, math.log((size + 1) / (index.document_frequency(w) + 0.5))) for w in sorted(words)}
    total = sum(weights.values())
    shares = np.zeros(len(texts))
    if not total:
        return shares
    with closing(sqlite3.connect(":memory:")) as table:  # with the tokenizer of the index; row i + 1 holds text i
        table.execute(f"CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = '{TOKENIZER}')")
        table.executemany("INSERT INTO texts (text) VALUES (?)", [(text,) for text in texts])
        for word, weight in weights.items():
            for (row,) in table.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (f'"{word}"',)):
                shares[row - 1] += weight / total
    return shares
