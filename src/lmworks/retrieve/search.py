"""Questions into ranked chunks: legs that find, then pure functions from hits to hits.

dense    cosine of question and chunk, exact over all vectors, or near it (`vector_store.py`)
lexical  BM25 (Robertson & Zaragoza, 2009, section 3.6) over titles and words, as SQLite's FTS5 computes it
named    chunks that define a name that the question has
late     late interaction of the tokens of question and chunk (Khattab & Zaharia, 2020), over what the others found
fusion   a weighted sum of their scores (Bruch, Gai & Ingber, 2023)
rerank   the best of these, read together with the question by a cross-encoder (Nogueira & Cho, 2019)
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmworks.evaluate.passage_selection import fitting, unlike
from lmworks.records import Retrieved
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.encoder import Encoder, Reranker
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.late_interaction import late_interaction, project
from lmworks.retrieve.query_expansion import Complete, expanded
from lmworks.retrieve.symbols import written_names
from lmworks.retrieve.vector_store import Vectors, nearest

# Words that nearly every chunk holds: their weight in BM25 is next to nothing, their cost a pass over the whole index.
STOP_WORDS = frozenset({
    "a", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "had", "has",
    "have", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "so", "such", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
})  # fmt: skip

TITLE_WEIGHT = 1.5  # of a word in the headings, where one in the text counts 1
WEIGHTS = {"late_interaction": 1.0, "dense": 0.3, "bm25": 0.15, "named": 0.05}  # of the legs in the fusion
RERANKED = 0.03  # weight of a logit of the reranker, where the fused score counts 1
WHOLE_NAME = 3.0  # the score of a chunk that defines a name as the question writes it; of a member, one less
NAMED_FIRST = 3  # chunks at most that stand first because they define a name that is asked for
DEFAULTS = SearchConfig()


@dataclass(frozen=True, slots=True)
class Query:
    """A question as the legs read it: `vector` (width,) float32, `tokens` (tokens, stored width) float32."""

    text: str
    vector: np.ndarray
    tokens: np.ndarray


def read_query(index: Index, question: str, encoder: Encoder) -> Query:
    """The question with its vectors, by the encoder of the index."""
    vectors, tokens = encoder.encode_both([question], "query")
    return Query(question, np.asarray(vectors[0], dtype=np.float32), project(tokens[0], index.axes))


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
    passing = index.passing(filters)
    positions = None if passing is None else passing.positions
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
    passing = index.passing(filters)
    condition = "" if passing is None else "AND substr(:passing, words.rowid + 1, 1) = x'01'"
    found = index.connection.execute(
        f"""SELECT c.key, bm25(words, {TITLE_WEIGHT}, 1.0) AS score
            FROM words JOIN chunks c ON c.key = words.rowid JOIN documents d ON d.key = c.document
            WHERE words MATCH :expression {condition} ORDER BY score, d.uri, c.start, c.end LIMIT :k""",
        {"expression": expression, "k": k, "passing": passing and passing.by_key},
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


def named(index: Index, question: str, filters: Filters = EVERYTHING) -> Hits:
    """The chunks that define a name of the question: what is written as a name first, then words that are names too.

    Scores: `named`, 3 for what is written as code and defined as it is written, 2 for a member of that name, 1 for a
    plain word ("how do I open a file").
    """
    written = written_names(question)
    plain = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS and word not in written]
    query = (
        "SELECT s.chunk, s.part FROM symbols s JOIN chunks c ON c.key = s.chunk JOIN documents d ON d.key = c.document "
        "WHERE s.name = ? ORDER BY s.part, d.uri, c.start"
    )
    scores: dict[int, float] = {}
    for name in [*written, *dict.fromkeys(plain)]:
        for key, part in index.connection.execute(query, (name,)):
            if name in written or not part:
                scores.setdefault(key, WHOLE_NAME - part if name in written else 1.0)
    if passing := index.passing(filters):
        scores = {key: score for key, score in scores.items() if passing.by_key[key]}
    keys = sorted(scores, key=lambda key: -scores[key])
    return Hits(tuple(keys), tuple({"named": scores[key]} for key in keys))


def late(index: Index, query: Query, hits: Hits) -> Hits:
    """The hits with their late interaction with the question, in the order of that.

    Scores: `late_interaction`, and `dense` also for hits that another leg found.
    """
    if not hits.keys:
        return hits
    interaction = late_interaction(query.tokens, index.token_vectors(hits.keys))
    cosines = index.vectors(hits.keys) @ query.vector
    order = np.argsort(-interaction, kind="stable").tolist()
    return Hits(
        tuple(hits.keys[place] for place in order),
        tuple({"late_interaction": float(interaction[p]), "dense": float(cosines[p])} for p in order),
    )


# ---------------------------------------------------------------------------------------------------------------------
# From hits to hits


def union(legs: Sequence[Hits]) -> Hits:
    """Every hit once, in the order in which the legs first name it, with the scores of all legs."""
    scores: dict[int, dict[str, float]] = {}
    for leg in legs:
        for key, own in zip(leg.keys, leg.scores, strict=True):
            scores.setdefault(key, {}).update(own)
    return Hits(tuple(scores), tuple(scores.values()))


def fuse(hits: Hits, weights: Mapping[str, float] = WEIGHTS) -> Hits:
    """Order by the weighted sum of the scores; a hit that a leg did not find has 0 from it.

    Cosines are taken as they are, the unbounded scores, `bm25` and `named`, over the highest of the question. Such a
    sum keeps how far apart scores are, which ranks forget (Bruch, Gai & Ingber, 2023, "An Analysis of Fusion Functions
    for Hybrid Retrieval", section 4). Scores: those of the legs, and `fused`. Equal sums keep their order.
    """
    total = np.zeros(len(hits))
    for name, weight in weights.items():
        values = np.array([scores.get(name, 0.0) for scores in hits.scores])
        highest = values.max(initial=0.0) if name in ("bm25", "named") else 1.0
        total += weight * values / (highest or 1.0)
    order = np.argsort(-total, kind="stable").tolist()
    return Hits(
        tuple(hits.keys[place] for place in order),
        tuple({**hits.scores[place], "fused": float(total[place])} for place in order),
    )


def mean_of(rankings: Sequence[Hits]) -> Hits:
    """The hits by the mean of their `fused` scores in rankings of the same chunks; other scores are the first's."""
    means: dict[int, float] = defaultdict(float)
    for key, own in ((key, own) for one in rankings for key, own in zip(one.keys, one.scores, strict=True)):
        means[key] += own["fused"] / len(rankings)
    keys = rankings[0].keys
    scores = tuple({**own, "fused": means[key]} for key, own in zip(keys, rankings[0].scores, strict=True))
    return Hits(keys, scores).take(sorted(range(len(keys)), key=lambda place: -means[keys[place]]))


def drop_near_duplicates(hits: Hits, texts: Sequence[str], threshold: float) -> Hits:
    """Drop each hit whose text is like that of a better one: Jaccard of their word shingles at least `threshold`.

    `texts` are those of the hits, in order.
    """
    return hits.take(unlike(texts, threshold))


def fit_budget(hits: Hits, tokens: Sequence[int], budget: int) -> Hits:
    """The hits that fit a budget together, best first; one that does not fit is passed over for smaller ones below."""
    return hits.take(fitting(tokens, budget))


# ---------------------------------------------------------------------------------------------------------------------
# All of it


def search(
    index: Index,
    question: str,
    encoder: Encoder,
    config: SearchConfig = DEFAULTS,
    filters: Filters = EVERYTHING,
    reranker: Reranker | None = None,
    complete: Complete | None = None,
) -> list[Retrieved]:
    """The `config.k` best chunks for a question, best first; fewer only when no more exist or the budget is spent.

    `complete` writes what `config` adds to the question (`query_expansion.py`).
    """
    query, *others = expanded(index, read_query(index, question, encoder), encoder, config, complete)
    hits = ranked(index, query, config, filters, reranker, others)
    return [
        Retrieved(chunk.id, chunk.span, chunk.uri, chunk.text, scores)
        for chunk, scores in zip(index.chunks(hits.keys), hits.scores, strict=True)
    ]


def ranked(
    index: Index,
    query: Query,
    config: SearchConfig = DEFAULTS,
    filters: Filters = EVERYTHING,
    reranker: Reranker | None = None,
    others: Sequence[Query] = (),
) -> Hits:
    """Hits of a `search`, best first."""
    hits = fused(index, query, config, filters, others)
    return first_of(index, rerank(index, query.text, hits, config.rerank, reranker) if reranker else hits, config)


def fused(
    index: Index,
    query: Query,
    config: SearchConfig = DEFAULTS,
    filters: Filters = EVERYTHING,
    others: Sequence[Query] = (),
) -> Hits:
    """The distinct hits of all legs by their fused score, those asked for by name first; `config.k` of them wherever so
    many exist. With `others`, further ways to ask, the mean of the fused scores by each."""
    by_name = named(index, query.text, filters)
    candidates = config.candidates
    while True:
        near = dense(index, query.vector, candidates, filters)
        by_words = lexical(index, query.text, candidates, filters)
        legs = [union([near, by_words, by_name.take(range(min(candidates, len(by_name))))])]
        for one in others:
            own = dense(index, one.vector, candidates, filters), lexical(index, one.text, candidates, filters)
            legs.append(union(own))
        found, asked = union(legs), (query, *others)
        hits = mean_of([fuse(union([own, late(index, one, found)])) for one, own in zip(asked, legs, strict=True)])
        chunks = dict(zip(hits.keys, index.chunks(hits.keys), strict=True))
        unique = drop_near_duplicates(hits, [chunks[key].text for key in hits.keys], config.near_duplicate)
        # Duplicates may have taken the places of others: look further down, until nothing is left to look at.
        if len(unique) >= config.k or len(near) < candidates:
            return asked_by_name_first(unique)
        candidates *= 4


def rerank(index: Index, question: str, hits: Hits, count: int, reranker: Reranker) -> Hits:
    """Order the first `count` hits by their fused score and the logit of the reranker, which becomes the score
    `relevance`; it reads what the encoder read of a chunk."""
    chunks = index.chunks(hits.keys[:count])
    logits = reranker.relevance(question, [chunk.prefix + chunk.readable for chunk in chunks]).tolist()
    scores = [{**own, "relevance": logit} for own, logit in zip(hits.scores, logits, strict=False)]
    total = [own["fused"] + RERANKED * own["relevance"] for own in scores]
    order = sorted(range(len(scores)), key=lambda place: -total[place])
    return Hits(hits.keys, (*scores, *hits.scores[len(scores) :])).take([*order, *range(len(scores), len(hits))])


def first_of(index: Index, hits: Hits, config: SearchConfig) -> Hits:
    """The hits that a search returns: those asked for by name first, `config.k`, within the budget of tokens."""
    best = asked_by_name_first(hits)
    best = best.take(range(min(config.k, len(best))))
    if config.budget_tokens:
        best = fit_budget(best, [chunk.tokens for chunk in index.chunks(best.keys)], config.budget_tokens)
    return best


def asked_by_name_first(hits: Hits) -> Hits:
    """Move the chunks up that define a name which the question writes as code: the whole name before a member's."""
    rank = [scores.get("named", 0.0) for scores in hits.scores]
    first = sorted((place for place in range(len(hits)) if rank[place] > 1), key=lambda place: -rank[place])
    first = first[:NAMED_FIRST]
    return hits.take([*first, *(place for place in range(len(hits)) if place not in set(first))])
