"""How far documents are from the thresholds of a policy: which of them a slightly stricter one would have taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.policy import Step


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """One threshold and the n documents of a shard.

    values    (n,) float64: what was measured; NaN where it does not apply, or the step does not look at the document.
    distance  (n,) float64: how far on the side that stays, 0 or more; NaN as above, and on the other side.
    """

    step: str
    rule: str
    side: Literal["at least", "at most"]
    threshold: float
    values: np.ndarray
    distance: np.ndarray

    @property
    def scale(self) -> float:
        """What a distance is a share of: the threshold, and of a share the way from there to the nearer end, 0 or 1. So
        a limit on a share and the same one on all that it is not a share of have the same near misses. Nothing says
        which measures are shares: a threshold between 0 and 1 is taken for that of one. 0 where the threshold is."""
        threshold = self.threshold
        return min(threshold, 1 - threshold) if 0 < threshold < 1 else abs(threshold)


def looked_at(step: Step, table: AnnotationTable) -> np.ndarray:
    """(n,) bool: the documents that the step is about."""
    languages = table.labels.get("language") or [None] * len(table)
    about = zip(table.sources, table.kinds, languages, strict=True)
    return np.array([step.looks_at(*each) for each in about], dtype=bool)


def margins_of(steps: Sequence[Step], table: AnnotationTable) -> list[Margins]:
    """Of every threshold of the steps that the documents were measured for."""
    found = []
    for step in steps:
        limits = {name: limit for name, limit in step.all_limits.items() if name in table.measures}
        if not limits:
            continue
        mine = looked_at(step, table)
        for name, limit in limits.items():
            values = np.where(mine, table.measures[name], np.nan)
            if limit.at_least is not None:
                found.append(_margins(step.name, name, "at least", limit.at_least, values))
            if limit.at_most is not None:
                found.append(_margins(step.name, name, "at most", limit.at_most, values))
    return found


def _margins(
    step: str, rule: str, side: Literal["at least", "at most"], threshold: float, values: np.ndarray
) -> Margins:
    distance = values - threshold if side == "at least" else threshold - values
    return Margins(step, rule, side, threshold, values, np.where(distance >= 0, distance, np.nan))
