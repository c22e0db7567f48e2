"""What a step has sampled, as plain numbers: tensors are read once, not row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.generate.logit_rows import LogitRows
from lmworks.generate.on_host import moved
from lmworks.generate.sampling import Sampled, most_probable


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was sampled, as plain lists, a value for each row."""

    ids: list[int]
    log_probabilities: list[float]
    sampled: list[float]
    finite: list[bool]
    dead: list[bool]

    @classmethod
    def of(cls, sampled: Sampled, rows: LogitRows) -> "Chosen":
        """A row is finite if its normaliser is: not exactly if a logit is NaN or +inf, or all are -inf."""
        return cls(
            sampled.ids.tolist(),
            sampled.log_probabilities.tolist(),
            sampled.sampled_log_probabilities.tolist(),
            np.isfinite(moved(rows.log_normaliser)).tolist(),
            sampled.dead.tolist(),
        )


def alternatives_of(counts: Sequence[int], rows: LogitRows) -> list[list[tuple[int, float]]]:
    """For each row so many of the most probable tokens, best first, with their log-probabilities."""
    if not any(counts):
        return [[] for _ in counts]
    asking = [row for row, count in enumerate(counts) if count]
    ids, values = (found.tolist() for found in most_probable(rows.select(asking), max(counts)))
    best = {row: list(zip(*pair, strict=True)) for row, *pair in zip(asking, ids, values, strict=True)}
    return [best[row][:count] if count else [] for row, count in enumerate(counts)]
