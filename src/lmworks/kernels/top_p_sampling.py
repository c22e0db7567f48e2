"""Sampling a token from each row of scores: temperature, top-k, typical, top-p, min-p, then one uniform number.

The definition is `sample_token`, in NumPy, which also runs where there is no compiled library. The kernel samples from
several rows on several threads, and sorts no vocabulary (`cpp/token_sampling.h`); a row's token depends on nothing but
the row and its `RowSampling`.
"""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import numpy as np

from lmworks.kernels import c_structures, library
from lmworks.kernels.library import Library


class RowSampling(NamedTuple):
    """Sampling parameters of a row; the truncations apply in this order, each to what the ones before have left.

    uniform       in [0, 1): the token is the first at which the cumulated probability passes it.
    temperature   above 0; divides the scores.
    top_k         the k largest; 0: off.
    typical_p     those whose information is nearest to the entropy, until their probability reaches it; 1: off.
    top_p         the fewest whose probability reaches it; 1: off.
    min_p         those with at least this part of the largest probability; 0: off.

    Of equal tokens at the edge of a truncation, the first ones are left.
    """

    uniform: float
    temperature: float = 1.0
    top_k: int = 0
    typical_p: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0


def sample_tokens(
    rows: Sequence[np.ndarray], samplings: Sequence[RowSampling], kernels: Library | None = None
) -> list[tuple[int, float]]:
    """For each row its token, and the natural logarithm of the probability that it had.

    A row is (tokens,) float32, its largest score finite; a token that must not be sampled has -inf. Where all have, the
    result is (0, -inf). Rows may have different lengths. `kernels` picks a library other than the default.

    ValueError for a row that is not contiguous float32, or empty.
    """
    if not rows:
        return []
    chosen = kernels or library.load()
    if chosen is None:
        return [sample_token(row, sampling) for row, sampling in zip(rows, samplings, strict=True)]
    steps = (c_structures.TokenSampling * len(rows))()
    for step, row, sampling in zip(steps, rows, samplings, strict=True):
        if row.dtype != np.float32 or row.ndim != 1 or not len(row) or not row.flags.c_contiguous:
            raise ValueError(f"a row of scores is contiguous (tokens,) float32, not {row.shape} {row.dtype}")
        step.scores, step.count = row.__array_interface__["data"][0], len(row)
        for name, value in sampling._asdict().items():
            setattr(step, name, value)
    chosen.call("draw", steps, len(rows))
    return [(step.token, step.log_probability) for step in steps]


# ---------------------------------------------------------------------------------------------------------------------
# The definition


def sample_token(scores: np.ndarray, sampling: RowSampling) -> tuple[int, float]:
    """One row of `sample_tokens`: a truncation gives the places, in rising order, that it leaves of those that are."""
    if scores.max() == -np.inf:
        return 0, -np.inf
    ids, temperature = np.arange(len(scores)), sampling.temperature
    if 0 < sampling.top_k < len(ids):
        ids = np.sort(np.argsort(-scores, kind="stable")[: sampling.top_k])
    if sampling.typical_p < 1:
        ids = ids[typical(scores[ids], temperature, sampling.typical_p)]
    if sampling.top_p < 1:
        ids = ids[top_p(scores[ids], temperature, sampling.top_p)]
    if sampling.min_p > 0:
        ids = ids[min_p(scores[ids], temperature, sampling.min_p)]
    weights = np.exp(scaled(scores[ids], temperature))
    cumulated = weights.cumsum()
    index = int(cumulated.searchsorted(sampling.uniform * cumulated[-1], side="right"))
    return int(ids[index]), log(weights[index] / cumulated[-1])


def typical(scores: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The tokens whose information is nearest to the entropy, until their probability reaches the mass.

    Meister et al. 2023, "Locally typical sampling", section 4. With x a scaled score and Z = Σ exp(x), a token's
    information is ln Z - x, the entropy is ln Z - E[x], and the distance between them |x - E[x]|.
    """
    values = np.maximum(scaled(scores, temperature), -1000)  # exp(-1000) is 0 as well, and 0 · -inf would be NaN
    weights = np.exp(values)
    distances = np.abs(values - (weights * values).sum() / weights.sum())
    return _until(mass, np.argsort(distances, kind="stable"), weights)


def top_p(scores: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The nucleus: the fewest tokens whose probability reaches the mass (Holtzman et al. 2020, section 3.1)."""
    return _until(mass, np.argsort(-scores, kind="stable"), np.exp(scaled(scores, temperature)))


def min_p(scores: np.ndarray, temperature: float, ratio: float) -> np.ndarray:
    """The tokens with at least this part of the largest probability (Nguyen et al. 2024, section 3)."""
    return np.flatnonzero(scores >= scores.max() + np.float32(temperature * log(ratio)))


def scaled(scores: np.ndarray, temperature: float) -> np.ndarray:
    """(scores - their maximum) / temperature: (n,) float32 -> (n,) float64. The maximum is finite."""
    return (scores - scores.max()).astype(np.float64) / temperature


def _until(mass: float, order: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The first places of an order whose weights reach the part `mass` of all weights."""
    cumulated = weights[order].cumsum()
    return np.sort(order[: cumulated.searchsorted(mass * cumulated[-1]) + 1])
