"""Questions into ranked chunks: two legs, then pure functions from hits to hits.

dense    cosine of question and chunk, exact over all vectors, or near it (`vector_store.py`)
lexical  BM25 (Robertson & Zaragoza, 2009, section 3.6) over words, as SQLite's FTS5 computes it
fusion   reciprocal rank fusion (Cormack, Clarke & Büttcher, 2009)
rerank   late interaction of the tokens of question and chunk (Khattab & Zaharia, 2020)
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmworks.records import Retrieved
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.index import EVERYTHING, Encode, EncodeTokens, Filters, Index
from lmworks.retrieve.late_interaction import late_interaction
from lmworks.retrieve.vector_store import Vectors, nearest

# Words that nearly every chunk holds: their weight in BM25 is next to nothing, their cost a pass over the whole index.
STOP_WORDS = frozenset({
    "a", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "had", "has",
    "have", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "so", "such", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
})  # fmt: skip

SHINGLE_WORDS = 3
DEFAULTS = SearchConfig()


@dataclass(frozen=True, slots=True)
class Hits:
    """A ranking, best first: keys of chunks in the index, and for each the scores of the steps that it went through."""

    keys: tuple[int, ...] = ()
    scores: tuple[Mapping[str, float], ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Sequence[int]) -> "Hits":
        """The hits at these positions, in this order."""
        return Hits(tuple(self.keys[p] for p in positions), tuple(self.scores[p] for p in positions))


# ---------------------------------------------------------------------------------------------------------------------
# Legs


def dense(index: Index, query: np.ndarray, k: int, filters: Filters = EVERYTHING) -> Hits:
    """The `k` chunks of highest cosine with the query vector, (width,) float32 of length 1.

    Exact, or as near as the store of the index finds them; filters apply before the choice, so that `k` chunks are
    returned whenever as many pass. Chunks of equal score are ordered by uri and place. Scores: `dense`, the cosine, and
    `dense_rank` from 1.
    """
    layout = index.layout()
    allowed = index.document_keys(filters)
    positions = None
    if allowed is not None:
        positions = np.flatnonzero(np.isin(layout.documents, np.array(allowed, dtype=np.int64)))
    best, cosines = nearest(Vectors(layout.matrix, layout.rows), query, k, positions, index.store)
    return Hits(
        tuple(layout.keys[best].tolist()),
        tuple({"dense": cosine, "dense_rank": float(rank)} for rank, cosine in enumerate(cosines.tolist(), start=1)),
    )


def lexical(index: Index, question: str, k: int, filters: Filters = EVERYTHING) -> Hits:
    """The `k` best chunks by BM25 over the words and word pairs of the question; the filters apply before the choice.

    Words are stemmed (Porter) and compared without case and accents. A name such as `max_tokens` is looked for as a
    phrase. Scores: `bm25`, higher is better, and `bm25_rank` from 1.
    """
    expression = match_expression(question)
    if not expression or k < 1:
        return Hits()
    allowed = index.document_keys(filters)
    condition = "" if allowed is None else "AND c.document IN (SELECT value FROM json_each(:allowed))"
    found = index.connection.execute(
        f"""SELECT c.key, words.rank
            FROM words JOIN chunks c ON c.key = words.rowid JOIN documents d ON d.key = c.document
            WHERE words MATCH :expression {condition} ORDER BY words.rank, d.uri, c.start, c.end LIMIT :k""",
        {"expression": expression, "k": k, "allowed": json.dumps(allowed)},
    ).fetchall()
    return Hits(
        tuple(key for key, _ in found),
        tuple({"bm25": -score, "bm25_rank": float(rank)} for rank, (_, score) in enumerate(found, start=1)),
    )


def match_expression(question: str) -> str:
    """A question as an FTS5 query: its words, and each pair of neighbours as a phrase, joined by OR.

    Everything is quoted: whatever the user writes, none of it is syntax. Stop words count only in a pair with another
    word ("with statement"), unless there is nothing else.
    """
    words = [word.lower() for word in re.findall(r"\w+", question) if word.strip("_")]
    content_words = [word for word in words if word not in STOP_WORDS] or words
    pairs = [f"{one} {other}" for one, other in pairwise(words) if not {one, other} <= STOP_WORDS]
    return " OR ".join(f'"{term}"' for term in dict.fromkeys([*content_words, *pairs]))


# ---------------------------------------------------------------------------------------------------------------------
# From hits to hits


def reciprocal_rank_fusion(legs: Sequence[Hits], constant: float = 60.0) -> Hits:
    """Order by the sum over legs of `1 / (constant + rank)`; a leg that did not find a chunk adds nothing.

    Scores: those of the legs, and `rrf`. Equal sums keep the order in which the legs first name the chunks.
    """
    scores: dict[int, dict[str, float]] = {}
    for leg in legs:
        for rank, (key, own) in enumerate(zip(leg.keys, leg.scores, strict=True), start=1):
            merged = scores.setdefault(key, {"rrf": 0.0})
            merged.update({name: value for name, value in own.items() if name != "rrf"})
            merged["rrf"] += 1.0 / (constant + rank)
    order = sorted(scores, key=lambda key: -scores[key]["rrf"])
    return Hits(tuple(order), tuple(scores[key] for key in order))


def rerank(index: Index, hits: Hits, question: str, query: np.ndarray, encode_tokens: EncodeTokens, first: int) -> Hits:
    """The `first` hits in the order of cosine plus late interaction; the others after them, as they were.

    The cosine compares question and chunk as wholes, late interaction token by token; both lie in [-1, 1] and neither
    is trained here, so they count the same. Scores: `late_interaction`, and `dense` also for hits that only the lexical
    leg found.
    """
    head = hits.take(range(min(first, len(hits))))
    (tokens,) = encode_tokens([question], "query")  # (question tokens, width)
    passages = encode_tokens(index.embed_texts(head.keys), "passage")
    late = [late_interaction(tokens, passage) for passage in passages]
    cosines = (index.vectors(head.keys) @ query).tolist()
    scores = tuple(
        {**own, "dense": cosine, "late_interaction": interaction}
        for own, cosine, interaction in zip(head.scores, cosines, late, strict=True)
    )
    order = np.argsort(-(np.array(cosines) + np.array(late)), kind="stable").tolist()
    best = Hits(head.keys, scores).take(order)
    rest = hits.take(range(len(head), len(hits)))
    return Hits(best.keys + rest.keys, best.scores + rest.scores)


def drop_near_duplicates(hits: Hits, texts: Sequence[str], threshold: float) -> Hits:
    """Drop each hit whose text is like that of a better one: Jaccard of their word shingles at least `threshold`.

    `texts` are those of the hits, in order.
    """
    kept: list[int] = []
    shingles = [_shingles(text) for text in texts]
    for position, own in enumerate(shingles):
        if all(_jaccard(own, shingles[better]) < threshold for better in kept):
            kept.append(position)
    return hits.take(kept)


def fit_budget(hits: Hits, tokens: Sequence[int], budget: int) -> Hits:
    """The hits that fit a budget together, best first; one that does not fit is passed over for smaller ones below."""
    kept: list[int] = []
    left = budget
    for position, size in enumerate(tokens):
        if size <= left:
            kept.append(position)
            left -= size
    return hits.take(kept)


def shingle_overlap(one: str, other: str) -> float:
    """Jaccard similarity of the word shingles of two texts, in [0, 1]."""
    return _jaccard(_shingles(one), _shingles(other))


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(count))


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """|A ∩ B| / |A ∪ B|; neither set is ever empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


# ---------------------------------------------------------------------------------------------------------------------
# All of it


def search(
    index: Index,
    question: str,
    encode: Encode,
    config: SearchConfig = DEFAULTS,
    filters: Filters = EVERYTHING,
    *,
    encode_tokens: EncodeTokens | None = None,
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> list[Retrieved]:
    """The `config.k` best chunks for a question, best first; fewer only when no more exist or the budget is spent.

    `encode` and `encode_tokens` are those of the encoder of the index; without the second there is no reranking. The
    budget counts the tokens of the encoder, or, for the budget of another model, those of `count_tokens` on the texts.
    """
    query = np.asarray(encode([question], "query"), dtype=np.float32)[0]  # (width,)
    candidates = config.candidates
    while True:
        legs = (dense(index, query, candidates, filters), lexical(index, question, candidates, filters))
        hits = reciprocal_rank_fusion(legs, config.rrf_constant)
        chunks = dict(zip(hits.keys, index.chunks(hits.keys), strict=True))
        unique = drop_near_duplicates(hits, [chunks[key].text for key in hits.keys], config.near_duplicate)
        # Duplicates may have taken the places of others: look further down, until nothing is left to look at.
        if len(unique) >= config.k or len(legs[0]) < candidates:
            break
        candidates *= 4
    if encode_tokens and config.rerank:
        unique = rerank(index, unique, question, query, encode_tokens, config.rerank)
    best = unique.take(range(min(config.k, len(unique))))
    if config.budget_tokens:
        texts = [chunks[key].text for key in best.keys]
        tokens = count_tokens(texts) if count_tokens else [chunks[key].tokens for key in best.keys]
        best = fit_budget(best, tokens, config.budget_tokens)
    return [
        Retrieved(chunks[key].id, chunks[key].span, chunks[key].uri, chunks[key].text, scores)
        for key, scores in zip(best.keys, best.scores, strict=True)
    ]
