"""Answering against abstaining: the risk among what is answered, as the share of what is answered grows.

Source: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification" (risk and coverage);
Geifman & El-Yaniv 2017 (the curve for a confidence score).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lmworks.evaluate.confidence_metrics import ece_metric
from lmworks.evaluate.metric import Item, Metric, Response, each
from lmworks.evaluate.span_overlap import is_right

START = 2.5  # of the fewest answers that could pass: fixed before any outcome is seen


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Points of the curve by rising coverage: `coverage[i]` of the questions are answered at confidence at least
    `threshold[i]`, and a share `risk[i]` of those answers is wrong."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    threshold: tuple[float, ...]

    @property
    def area(self) -> float:
        """AURC: the mean risk over the coverages, a tie counting for each of its items; lower is better."""
        return float(np.sum(np.asarray(self.risk) * np.diff([0.0, *self.coverage])))


def risk_coverage(confidence: Sequence[float], right: Sequence[bool]) -> RiskCoverage:
    """The curve of a confidence score. Equal confidences are answered together, at their mean risk.

    Raises ValueError on no items or on unequal lengths.
    """
    if not confidence or len(confidence) != len(right):
        raise ValueError(f"need as many confidences as outcomes, at least one; got {len(confidence)} and {len(right)}")
    score, order = np.asarray(confidence, dtype=np.float64), np.argsort(-np.asarray(confidence), kind="stable")
    score, wrong = score[order], np.cumsum(~np.asarray(right, dtype=bool)[order])
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))  # of each tie
    columns = (last + 1) / len(score), wrong[last] / (last + 1), score[last]
    return RiskCoverage(*(tuple(column.tolist()) for column in columns))


def risk_controlled_threshold(
    confidence: Sequence[float], right: Sequence[bool], alpha: float, delta: float
) -> float | None:
    """The lowest threshold with a guarantee: of what is answered at it, a share of at most `alpha` is wrong, with
    probability at least 1 - `delta` over the choice of these questions; None where no threshold has it.

    It holds for questions drawn as these were, and a score that was fitted on none of them. Thresholds are tested in a
    fixed sequence from the fewest answers to the most (Angelopoulos et al. 2021, "Learn then Test", section 4.3): the
    p-value of "more than `alpha` is wrong" is the binomial tail, the test stops at the first one above `delta`, and no
    correction is due for their number. It starts where as many answers as `START` times the fewest that could pass
    without an error are given, so that one error at the top does not end it.
    """
    from scipy.stats import binom

    curve = risk_coverage(confidence, right)
    answered = np.rint(np.asarray(curve.coverage) * len(confidence)).astype(int)
    wrong = np.rint(np.asarray(curve.risk) * answered).astype(int)
    fewest = START * np.log(delta) / np.log1p(-alpha)
    threshold = None
    for level, count, errors in zip(curve.threshold, answered, wrong, strict=True):
        if count < fewest:
            continue
        if binom.cdf(errors, count, alpha) > delta:
            break
        threshold = level
    return threshold


# ---------------------------------------------------------------------------------------------------------------------
# Metrics of a system that may abstain; an item without gold has no answer


def proposes_right(item: Item, response: Response) -> bool:
    """Whether a citation that the system gives, or would give if it never abstained, points to a gold span."""
    return any(is_right(span, item.gold) for span in response.proposed or response.citations)


_count = partial(Metric, proportion=True)
_due = each(lambda item, one: (float(one.abstained and not item.gold), float(one.abstained)))
_unanswerable = each(lambda item, one: (float(one.abstained and not item.gold), float(not item.gold)))
_wrong = each(lambda item, one: (float(not (one.abstained or proposes_right(item, one))), float(not one.abstained)))

abstention_precision = partial(_count, "abstention-precision", _due)  # of all abstained from, those without an answer
abstention_recall = partial(
    _count, "abstention-recall", _unanswerable
)  # of all without an answer, those abstained from
answered = partial(_count, "answered", each(lambda _, one: float(not one.abstained)), higher_is_better=None)  # coverage
selective_risk = partial(_count, "selective-risk", _wrong, higher_is_better=False)  # wrong ones among those answered


def calibration_error() -> Metric:
    """ECE of the stated confidence, as the probability that what is cited, or would be, points to a gold span."""
    right = _count("right proposal", each(lambda item, one: float(proposes_right(item, one))))
    return replace(ece_metric(correct=right), name="calibration-error")
