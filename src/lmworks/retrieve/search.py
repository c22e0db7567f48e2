"""Questions into ranked chunks: retrievers that find, then pure functions from hits to hits.

`dense.py`             cosine of question and chunk
`bm25.py`              BM25 over headings and words
`named.py`             chunks that define a name that the question has
`late_interaction.py`  the tokens of question and chunk (Khattab & Zaharia, 2020), over what the others found
`fusion.py`            a weighted sum of their scores (Bruch, Gai & Ingber, 2023)
rerank                 the best of these, read together with the question by a cross-encoder (Nogueira & Cho, 2019)
"""

from collections.abc import Sequence

import numpy as np

from lmworks.evaluate.passage_selection import fitting, unlike
from lmworks.records import Retrieved
from lmworks.retrieve.bm25 import lexical
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.encoder import Encoder, Reranker
from lmworks.retrieve.fusion import fuse, mean_of, union
from lmworks.retrieve.hits import Hits
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.late_interaction import late_interaction
from lmworks.retrieve.named import asked_by_name_first, named
from lmworks.retrieve.query_expansion import Complete, Query, expanded

RERANKED = 0.03  # weight of a logit of the reranker, where the fused score counts 1
DEFAULTS = SearchConfig()


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
    hits = ranked(index, expanded(index, question, encoder, config, complete), config, filters, reranker)
    return [
        Retrieved(chunk.id, chunk.span, chunk.uri, chunk.text, scores)
        for chunk, scores in zip(index.chunks(hits.keys), hits.scores, strict=True)
    ]


def ranked(
    index: Index,
    queries: Sequence[Query],
    config: SearchConfig = DEFAULTS,
    filters: Filters = EVERYTHING,
    reranker: Reranker | None = None,
) -> Hits:
    """Hits of a `search` for a question, the first of the `queries`, best first."""
    hits = fused(index, queries, config, filters)
    if reranker:
        hits = rerank(index, queries[0].text, hits, config.rerank, reranker)
    return first_of(index, hits, config)


def fused(
    index: Index, queries: Sequence[Query], config: SearchConfig = DEFAULTS, filters: Filters = EVERYTHING
) -> Hits:
    """The distinct hits of all retrievers by their fused score, those asked for by name first; `config.k` of them
    wherever so many exist. Of several queries, the mean of the fused scores by each; names are those of the first."""
    by_name = named(index, queries[0].text, filters)
    candidates = config.candidates
    while True:
        near = [dense(index, query.vector, candidates, filters) for query in queries]
        by_words = [lexical(index, query.text, candidates, filters) for query in queries]
        retrieved = [union(pair) for pair in zip(near, by_words, strict=True)]
        retrieved[0] = union([retrieved[0], by_name.take(range(min(candidates, len(by_name))))])
        everything = union(retrieved)
        hits = mean_of([
            fuse(union([hits, late(index, query, everything)])) for query, hits in zip(queries, retrieved, strict=True)
        ])  # fmt: skip
        chunks = index.chunks(hits.keys)
        unique = hits.take(unlike([chunk.text for chunk in chunks], config.near_duplicate))
        # Duplicates may have taken the places of others: look further down, until nothing is left to look at.
        if len(unique) >= config.k or len(near[0]) < candidates:
            return asked_by_name_first(unique)
        candidates *= 4


def late(index: Index, query: Query, hits: Hits) -> Hits:
    """The hits with their late interaction with the question, in the order of that.

    Scores: `late_interaction`, and `dense` also for hits that another retriever found.
    """
    interaction = late_interaction(query.tokens, index.token_vectors(hits.keys))
    cosines = index.vectors(hits.keys) @ query.vector
    scores = [
        {"late_interaction": float(score), "dense": float(cosine)}
        for score, cosine in zip(interaction, cosines, strict=True)
    ]
    return Hits(hits.keys, tuple(scores)).take(np.argsort(-interaction, kind="stable").tolist())


def rerank(index: Index, question: str, hits: Hits, count: int, reranker: Reranker) -> Hits:
    """Order the first `count` hits by their fused score and the logit of the reranker, which becomes the score
    `relevance`; it reads what the encoder read of a chunk."""
    chunks = index.chunks(hits.keys[:count])
    logits = reranker.relevance(question, [chunk.prefix + chunk.readable for chunk in chunks]).tolist()
    scores = [{**scored, "relevance": logit} for scored, logit in zip(hits.scores, logits, strict=False)]
    total = [scored["fused"] + RERANKED * scored["relevance"] for scored in scores]
    order = sorted(range(len(scores)), key=lambda rank: -total[rank])
    return Hits(hits.keys, (*scores, *hits.scores[len(scores) :])).take([*order, *range(len(scores), len(hits))])


def first_of(index: Index, hits: Hits, config: SearchConfig) -> Hits:
    """The hits that a search returns: those asked for by name first, `config.k`, within the budget of tokens."""
    best = asked_by_name_first(hits)
    best = best.take(range(min(config.k, len(best))))
    if config.budget_tokens:
        best = best.take(fitting([chunk.tokens for chunk in index.chunks(best.keys)], config.budget_tokens))
    return best
