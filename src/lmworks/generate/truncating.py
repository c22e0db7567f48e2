"""Which tokens of a row may be drawn: top-k, typical, top-p, min-p, each inside what the ones before have left.

Each is a function from the logits of what is left to the places of what it leaves, in rising order. None sorts a
vocabulary if it can be helped: a cut in the order of probability is a threshold, which is sought among the largest
values, without their places; where it does not lie among them, among more of them, at last among all.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import log

import numpy as np

from lmworks.generate.drawing import cumulated_blocks, exponentials, scaled
from lmworks.generate.protocol import SamplingParameters

_FIRST_CANDIDATES = 1024  # a nucleus rarely holds more, and fewer are not found faster
_WIDENING = 8


Truncation = Callable[[np.ndarray], np.ndarray]
"""From logits (n,) float32 without NaN, their maximum finite, to places in rising order; at least one."""


def truncations(parameter: SamplingParameters, vocabulary: int) -> list[Truncation]:
    """What the parameters cut off from a vocabulary of this size, in the order in which it applies."""
    temperature, found = parameter.temperature, list[Truncation]()
    if 0 < parameter.top_k < vocabulary:
        found.append(partial(top_k, k=parameter.top_k))
    if parameter.typical_p < 1:
        found.append(partial(typical, temperature=temperature, mass=parameter.typical_p))
    if parameter.top_p < 1:
        found.append(partial(top_p, temperature=temperature, mass=parameter.top_p))
    if parameter.min_p > 0:
        found.append(partial(min_p, temperature=temperature, part=parameter.min_p))
    return found


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """The k largest of more than k logits (n,)."""
    return _first_reaching(logits, np.partition(logits, -k)[-k], k)


def typical(logits: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The tokens whose information is nearest to the entropy, until their probability reaches the mass.

    Meister et al. 2023, "Locally typical sampling", section 4. With x a scaled logit and Z = Σ exp(x), a token's
    information is ln Z - x, the entropy is ln Z - E[x], and the distance between them |x - E[x]|.
    """
    values = scaled(logits, temperature)
    np.maximum(values, -1000, out=values)  # exp(-1000) is 0 as well, and 0 · -inf would be NaN
    weights = np.exp(values)
    total = cumulated_blocks(weights)[-1]
    values -= np.float32(cumulated_blocks(weights * values)[-1] / total)
    distances = np.abs(values, out=values)
    for width in _widths(len(logits)):
        near = distances <= np.partition(distances, width)[width] if width < len(logits) else np.ones_like(distances)
        places = np.flatnonzero(near)
        # Distance and place as one integer: positive numbers have the order of their bits, and NumPy sorts integers
        # with vector instructions, numbers together with their places it does not.
        keys = distances[places].view(np.int32).astype(np.int64) << 32 | places
        keys.sort()
        order = keys & 0xFFFFFFFF
        count = _count(weights[order], mass * total)
        if count < len(order):
            return np.sort(order[:count])
    return np.arange(len(logits))


def top_p(logits: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The nucleus: the fewest tokens whose probability reaches the mass (Holtzman et al. 2020, section 3.1)."""
    weights = exponentials(logits, temperature)
    total = cumulated_blocks(weights)[-1]
    for width in _widths(len(logits)):
        largest = np.sort(np.partition(weights, -width)[-width:] if width < len(weights) else weights)[::-1]
        count = _count(largest, mass * total)
        if count < width:
            return _first_reaching(weights, largest[count - 1], count)
    return np.arange(len(logits))


def min_p(logits: np.ndarray, temperature: float, part: float) -> np.ndarray:
    """The tokens with at least this part of the largest probability (Nguyen et al. 2024, section 3)."""
    return np.flatnonzero(logits >= logits.max() + np.float32(temperature * log(part)))


def _first_reaching(values: np.ndarray, threshold: float, count: int) -> np.ndarray:
    """The places of the values (n,) from a threshold on; of those equal to it the first, so that there are `count`."""
    places = np.flatnonzero(values >= threshold)
    surplus = len(places) - count
    if surplus:
        places = np.delete(places, np.flatnonzero(values[places] == threshold)[-surplus:])
    return places


def _count(weights: np.ndarray, mass: float) -> int:
    """How many of the first weights (n,) it takes to reach the mass; n where all of them or more are needed."""
    return min(int(weights.cumsum(dtype=np.float64).searchsorted(mass)) + 1, len(weights))


def _widths(most: int) -> Iterator[int]:
    """How many candidates to try with, one after the other."""
    width = _FIRST_CANDIDATES
    while width < most:
        yield width
        width *= _WIDENING
    yield most
