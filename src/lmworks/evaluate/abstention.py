"""Answering against abstaining: the risk among what is answered, as the share of what is answered grows.

Source: El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification" (risk and coverage);
Geifman & El-Yaniv 2017 (the curve for a confidence score).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    score = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    wrong = np.cumsum(~np.asarray(right, dtype=bool)[order])
    answered = np.arange(1, len(score) + 1)
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    coverage, risk = answered / len(score), wrong / answered
    keep = np.flatnonzero(last_of_tie)
    return RiskCoverage(tuple(coverage[keep].tolist()), tuple(risk[keep].tolist()), tuple(score[order][keep].tolist()))


def expected_calibration_error(confidence: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """ECE: mean gap of confidence and accuracy over equal-width bins, weighted by items (Guo et al. 2017, sec. 2)."""
    score, outcome = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    index = np.minimum((score * bins).astype(int), bins - 1)
    gaps = [
        abs(score[index == b].mean() - outcome[index == b].mean()) * (index == b).sum() for b in set(index.tolist())
    ]
    return float(sum(gaps) / len(score))
