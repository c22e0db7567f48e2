"""Overlap of cited spans with gold spans, in characters of the source: span F1, precision, recall.

A question has one or more gold spans, any one of which answers it; an answer cites zero or more spans.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from lmworks.evaluate.metric import Item, Metric, Response, each
from lmworks.evaluate.string_metrics import f1
from lmworks.records import Span, Unscored

COVERED = 0.5  # a citation is right when it covers half of the gold span, or lies by half inside it


def span_f1(predicted: Sequence[Span], gold: Sequence[Span]) -> float:
    """Character F1 of the cited spans against the best-matching gold span (SQuAD's F1, on characters of the source).

    Cited spans are counted once where they overlap. 0 when nothing is cited or nothing overlaps.
    """
    cited = _merged(predicted)
    return max((f1(_shared(cited, [one]), _length(cited), _length([one])) for one in gold), default=0.0)


def is_right(citation: Span, gold: Sequence[Span]) -> bool:
    """Whether a citation points to an answer: it covers half of a gold span, or half of it lies inside one."""
    return any(
        overlap >= COVERED * (span.end - span.start) or overlap >= COVERED * (citation.end - citation.start)
        for span in gold
        if (overlap := citation.overlap(span)) > 0
    )


def gold_characters(citations: Sequence[Span], gold: Sequence[Span]) -> tuple[int, int]:
    """The numbers of cited characters that belong to any gold span, and of cited ones; each is counted once."""
    cited = _merged(citations)
    return _shared(cited, _merged(gold)), _length(cited)


def is_found(citations: Sequence[Span], gold: Sequence[Span]) -> bool:
    """Whether any one gold span is at least half covered by the citations together."""
    cited = _merged(citations)
    return any(_shared(cited, [span]) >= COVERED * (span.end - span.start) for span in gold)


def covered_share(spans: Sequence[Span], gold: Sequence[Span]) -> float:
    """Share of a gold span's characters that the spans cover together, averaged over the gold spans that hold any."""
    held, wanted = _merged(spans), [span for span in gold if span.start < span.end]
    return sum(_shared(held, [one]) / _length([one]) for one in wanted) / max(len(wanted), 1)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Spans that share no character and cover what these cover."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.document, one.start)):
        if merged and merged[-1].document == span.document and span.start <= merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _length(spans: Sequence[Span]) -> int:
    return sum(span.end - span.start for span in spans)


def _shared(some: Sequence[Span], others: Sequence[Span]) -> int:
    """Characters of both, where neither has overlaps of its own."""
    return sum(one.overlap(other) for one in some for other in others)


# ---------------------------------------------------------------------------------------------------------------------
# Metrics of citations; an abstention cites nothing


def of_gold(name: str, measure: Callable[[Item, Response], float]) -> Metric:
    """A metric of the items that something in the documents answers."""
    unscored = Unscored("nothing in the documents answers it")
    return Metric(name, each(lambda item, one: measure(item, one) if item.gold else unscored), proportion=True)


span_f1_metric = partial(of_gold, "span-f1", lambda item, response: span_f1(response.citations, item.gold))
citation_recall = partial(of_gold, "citation-recall", lambda item, one: float(is_found(one.citations, item.gold)))

# Of all citations those that point to a gold span, of all cited characters those that belong to one: none where nothing
# answers.
_pointing = each(lambda item, one: (sum(is_right(s, item.gold) for s in one.citations), len(one.citations)))
_inside = each(lambda item, one: gold_characters(one.citations, item.gold))
citation_precision = partial(Metric, "citation-precision", _pointing, proportion=True)
cited_characters = partial(Metric, "citation-precision-characters", _inside, proportion=True)
