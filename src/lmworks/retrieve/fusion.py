"""Several rankings into one by a weighted sum of their scores.

Such a sum keeps how far apart scores are, which ranks forget (Bruch, Gai & Ingber, 2023, "An Analysis of Fusion
Functions for Hybrid Retrieval", section 4).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from lmworks.retrieve.hits import Hits

WEIGHTS = {"late_interaction": 1.0, "dense": 0.3, "bm25": 0.15, "named": 0.05}  # of the retrievers
UNBOUNDED = ("bm25", "named")


def union(rankings: Sequence[Hits]) -> Hits:
    """Every hit once, in the order in which the rankings first name it, with the scores of all of them."""
    scores: dict[int, dict[str, float]] = {}
    for hits in rankings:
        for key, scored in zip(hits.keys, hits.scores, strict=True):
            scores.setdefault(key, {}).update(scored)
    return Hits(tuple(scores), tuple(scores.values()))


def fuse(hits: Hits, weights: Mapping[str, float] = WEIGHTS) -> Hits:
    """Order by the weighted sum of the scores; a hit that a retriever did not find has 0 from it.

    Cosines are taken as they are, the unbounded scores, `bm25` and `named`, over the highest of the question. Scores:
    those of the retrievers, and `fused`. Equal sums keep their order.
    """
    total = np.zeros(len(hits))
    for name, weight in weights.items():
        values = np.array([scored.get(name, 0.0) for scored in hits.scores])
        highest = values.max(initial=0.0) if name in UNBOUNDED else 1.0
        total += weight * values / (highest or 1.0)
    scores = tuple({**scored, "fused": value} for scored, value in zip(hits.scores, total.tolist(), strict=True))
    return Hits(hits.keys, scores).take(np.argsort(-total, kind="stable").tolist())


def mean_of(rankings: Sequence[Hits]) -> Hits:
    """The hits by the mean of their `fused` scores in rankings of the same chunks (Belkin, Kantor, Fox & Shaw, 1995);
    other scores are the first's."""
    means: dict[int, float] = defaultdict(float)
    for hits in rankings:
        for key, scored in zip(hits.keys, hits.scores, strict=True):
            means[key] += scored["fused"] / len(rankings)
    keys = rankings[0].keys
    scores = tuple({**scored, "fused": means[key]} for key, scored in zip(keys, rankings[0].scores, strict=True))
    return Hits(keys, scores).take(sorted(range(len(keys)), key=lambda rank: -means[keys[rank]]))
