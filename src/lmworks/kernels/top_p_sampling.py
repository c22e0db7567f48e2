"""Sampling a token from each row of scores: temperature, top-k, typical, top-p, min-p, then one uniform number.

The definition is `sample_token`, in NumPy, which also runs where there is no compiled library. The kernel samples from
several rows on several threads; a row's token depends on nothing but the row and its `RowSampling`.

A truncation is a function from the remaining scores to the places of those it keeps, in rising order. None sorts a
vocabulary if it can be helped. What is cut off begins somewhere in an order, so the cut is sought among the few that
are within a bound of the first in that order; where it is not there, within a wider bound, at last among all.

Sums are made in blocks: a block is summed in float32 as one piece, the few sums of a row in float64. A place is sought
among the sums of the blocks first and then inside one block.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import NamedTuple

import numpy as np

from lmworks.kernels import c_structures, library
from lmworks.kernels.library import Library

_BLOCK = 256  # summing so many positive float32 keeps a relative error of 1e-7
_BOUNDS = (1e-3, 1e-4, 0.0)  # of a token's probability, in units of the largest one
_DISTANCES = (5.0, np.inf)  # of a token's information from the entropy, in nats


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
    """One row of `sample_tokens`."""
    if scores.max() == -np.inf:
        return 0, -np.inf
    ids = None  # of what is left: everything
    for truncation in _truncations(sampling, len(scores)):
        places = truncation(scores)
        ids, scores = places if ids is None else ids[places], scores[places]
    entry, log_probability = invert_cumulative(exponentials(scores, sampling.temperature), sampling.uniform)
    return entry if ids is None else int(ids[entry]), log_probability


# ---------------------------------------------------------------------------------------------------------------------
# Truncations

Truncation = Callable[[np.ndarray], np.ndarray]
"""From scores (n,) float32 without NaN, their maximum finite, to places in rising order; at least one."""


def _truncations(sampling: RowSampling, vocabulary: int) -> list[Truncation]:
    """The truncations of a vocabulary of this size, in the order in which they apply."""
    temperature, found = sampling.temperature, list[Truncation]()
    if 0 < sampling.top_k < vocabulary:
        found.append(partial(top_k, k=sampling.top_k))
    if sampling.typical_p < 1:
        found.append(partial(typical, temperature=temperature, mass=sampling.typical_p))
    if sampling.top_p < 1:
        found.append(partial(top_p, temperature=temperature, mass=sampling.top_p))
    if sampling.min_p > 0:
        found.append(partial(min_p, temperature=temperature, part=sampling.min_p))
    return found


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest of more than k scores (n,)."""
    return _first_reaching(scores, np.partition(scores, -k)[-k], k)


def typical(scores: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The tokens whose information is nearest to the entropy, until their probability reaches the mass.

    Meister et al. 2023, "Locally typical sampling", section 4. With x a scaled score and Z = Σ exp(x), a token's
    information is ln Z - x, the entropy is ln Z - E[x], and the distance between them |x - E[x]|.
    """
    values = scaled(scores, temperature)
    np.maximum(values, -1000, out=values)  # exp(-1000) is 0 as well, and 0 · -inf would be NaN
    weights = np.exp(values)
    total = cumulated_blocks(weights)[-1]
    values -= np.float32(cumulated_blocks(weights * values)[-1] / total)
    distances = np.abs(values, out=values)
    for bound in _DISTANCES:
        places = np.flatnonzero(distances <= bound)
        # Distance and place as one integer: positive numbers have the order of their bits, and NumPy sorts integers
        # with vector instructions, numbers together with their places it does not.
        keys = distances[places].view(np.int32).astype(np.int64) << 32 | places
        keys.sort()
        order = keys & 0xFFFFFFFF
        count = entries_reaching(weights[order], mass * total)
        if count <= len(order):
            return np.sort(order[:count])
    return np.arange(len(scores))


def top_p(scores: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The nucleus: the fewest tokens whose probability reaches the mass (Holtzman et al. 2020, section 3.1)."""
    weights = exponentials(scores, temperature)
    total = cumulated_blocks(weights)[-1]
    for bound in _BOUNDS:
        largest = np.sort(weights[weights >= bound])[::-1]
        count = entries_reaching(largest, mass * total)
        if count <= len(largest):
            return _first_reaching(weights, largest[count - 1], count)
    return np.arange(len(scores))


def min_p(scores: np.ndarray, temperature: float, part: float) -> np.ndarray:
    """The tokens with at least this part of the largest probability (Nguyen et al. 2024, section 3)."""
    return np.flatnonzero(scores >= scores.max() + np.float32(temperature * log(part)))


def _first_reaching(values: np.ndarray, threshold: float, count: int) -> np.ndarray:
    """The places of the values (n,) from a threshold on; of those equal to it the first, so that there are `count`."""
    places = np.flatnonzero(values >= threshold)
    surplus = len(places) - count
    if surplus:
        places = np.delete(places, np.flatnonzero(values[places] == threshold)[-surplus:])
    return places


# ---------------------------------------------------------------------------------------------------------------------
# Sums and inverse transform sampling


def scaled(scores: np.ndarray, temperature: float) -> np.ndarray:
    """(scores - their maximum) / temperature: (n,) float32 -> (n,) float32. The maximum is finite."""
    values = scores - scores.max()
    values /= np.float32(temperature)
    return values


def exponentials(scores: np.ndarray, temperature: float) -> np.ndarray:
    """The weights of a softmax: exp of the scaled scores, (n,) float32 -> (n,) float32."""
    values = scaled(scores, temperature)
    return np.exp(values, out=values)


def cumulated_blocks(weights: np.ndarray) -> np.ndarray:
    """The sum up to the end of each block: (n,) float32 -> (blocks,) float64; the last one is the total."""
    return np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).cumsum(dtype=np.float64)


def entries_reaching(weights: np.ndarray, mass: float) -> int:
    """The number of first weights (n,) whose sum reaches the mass; n + 1 where all of them do not."""
    reached = cumulated_blocks(weights)
    block = int(reached.searchsorted(mass))
    if block == len(reached):
        return len(weights) + 1
    before = reached[block - 1] if block else 0.0
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    return block * _BLOCK + min(int(inside.searchsorted(mass - before)) + 1, len(inside))


def invert_cumulative(weights: np.ndarray, uniform: float) -> tuple[int, float]:
    """The first entry at which the cumulated weight passes the part `uniform`, in [0, 1), of the total.

    weights (n,) float32, not negative and not all zero; an entry without weight is never sampled. Returns the entry and
    the ln of its probability.
    """
    reached = cumulated_blocks(weights)
    target = uniform * reached[-1]
    block = int(reached.searchsorted(target, side="right"))
    before = reached[block - 1] if block else 0.0
    # How far the target lies inside its block is a part in [0, 1), because the float64 sum of the block's entries
    # differs from its float32 sum in the last digits.
    part = (target - before) / (reached[block] - before)
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    entry = block * _BLOCK + int(inside.searchsorted(part * inside[-1], side="right"))
    return entry, log(weights[entry] / reached[-1])
