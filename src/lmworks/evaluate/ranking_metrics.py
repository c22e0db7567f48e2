"""Ranking metrics: recall, precision, success, reciprocal rank, nDCG, average precision, over all that is relevant.

Definitions as in trec_eval; what is relevant is what exists, not what was retrieved, so that an item that was missed
counts. Over spans, a passage is relevant that is the first to point to a gold span: a second one to the same span adds
nothing, and gold spans that one passage points to count once. Where gold spans are whole passages this is trec_eval on
their ids. Nothing retrieved is 0, never 1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from lmworks.evaluate.metric import Item, Metric, Response
from lmworks.evaluate.span_overlap import covered_share, is_right, of_gold


def ndcg_at_k(gains: Sequence[float], existing: Sequence[float], k: int) -> float:
    """Discounted cumulative gain, linear with discount log2(rank + 1), over that of the ideal ranking.

    `gains` are those of the ranking, `existing` those of all relevant items in any order, one at least.
    Source: Järvelin & Kekäläinen 2002, with the discount of Burges et al. 2005.
    """
    ideal = sorted(existing, reverse=True)
    dcg, best = (sum(x / math.log2(r + 1) for r, x in enumerate(one[:k], start=1)) for one in (gains, ideal))
    return dcg / best


def passage_gains(item: Item, response: Response) -> tuple[list[float], list[float]]:
    """The gain of each passage that was retrieved, and the gains that exist.

    A gold span's gain is its grade in `item.fields["grades"]`, 1 without; a passage's the highest of those spans to
    which it is the first to point.
    """
    left = list(zip(item.gold, item.fields.get("grades") or [1.0] * len(item.gold), strict=True))
    gains: list[float] = []
    for passage in response.retrieved:
        found = [one for one in left if is_right(passage.span, [one[0]])]
        gains.append(max((grade for _, grade in found), default=0.0))
        left = [one for one in left if one not in found]
    return gains, [gain for gain in gains if gain] + [grade for _, grade in left]


def _over_spans(name: str, measure: Callable[[list[float], list[float], int], float], k: int = 0) -> Metric:
    """`measure` takes the gains of the first k passages, or of all; the gold that exists; and k."""

    def value(item: Item, response: Response) -> float:
        gains, existing = passage_gains(item, response)
        return measure(gains[: k or None], existing, k)

    return of_gold(f"{name}@{k}" if k else name, value)


def average_precision(gains: list[float], existing: list[float], _: int = 0) -> float:
    """Precision at the rank of each relevant passage that was retrieved, over the number of those that exist."""
    ranks = [rank for rank, gain in enumerate(gains, start=1) if gain]
    return sum(found / rank for found, rank in enumerate(ranks, start=1)) / len(existing)


recall = partial(_over_spans, "recall", lambda gains, existing, _: sum(map(bool, gains)) / len(existing))
precision = partial(_over_spans, "precision", lambda gains, _, k: sum(map(bool, gains)) / k)  # however few there are
success = partial(_over_spans, "success", lambda gains, *_: float(any(gains)))  # enough where any one of them answers
ndcg = partial(_over_spans, "ndcg", ndcg_at_k)
mean_reciprocal_rank = partial(
    _over_spans, "mrr", lambda gains, *_: next((1 / rank for rank, gain in enumerate(gains, 1) if gain), 0.0)
)
mean_average_precision = partial(_over_spans, "map", average_precision)
context_precision = partial(_over_spans, "context-precision", average_precision)  # of the passages an answer was given


def context_recall() -> Metric:
    """Share of the characters of each gold span that the passages cover together, averaged over the gold spans."""
    return of_gold(
        "context-recall", lambda item, response: covered_share([one.span for one in response.retrieved], item.gold)
    )
