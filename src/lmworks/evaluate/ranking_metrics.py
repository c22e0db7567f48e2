"""Ranking metrics of binary relevance: recall, reciprocal rank, nDCG.

Definitions as in trec_eval; `relevant` is the number of relevant items that exist, not the number retrieved, so that an
item that was missed counts.
"""

import math
from collections.abc import Sequence


def recall_at_k(relevance: Sequence[bool], relevant: int, k: int) -> float:
    """Share of the relevant items that stand among the first k of the ranking."""
    _check(relevance, relevant)
    return sum(relevance[:k]) / relevant


def reciprocal_rank(relevance: Sequence[bool]) -> float:
    """1 / rank of the first relevant item; 0 when none was retrieved."""
    return next((1.0 / rank for rank, hit in enumerate(relevance, start=1) if hit), 0.0)


def ndcg_at_k(relevance: Sequence[bool], relevant: int, k: int) -> float:
    """Discounted cumulative gain with discount log2(rank + 1), over that of the ideal ranking.

    Source: Järvelin & Kekäläinen 2002, with the discount of Burges et al. 2005.
    """
    _check(relevance, relevant)
    gained = sum(1.0 / math.log2(rank + 1) for rank, hit in enumerate(relevance[:k], start=1) if hit)
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(relevant, k) + 1))
    return gained / ideal


def _check(relevance: Sequence[bool], relevant: int) -> None:
    if relevant < 1 or relevant < sum(relevance):
        raise ValueError(f"{sum(relevance)} relevant items retrieved of {relevant}: need all of them, at least one")
