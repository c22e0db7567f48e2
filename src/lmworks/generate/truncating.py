"""Which tokens of a row may be drawn: top-k, typical, top-p, min-p, each inside what the ones before have left.

Each is a function from the logits of what is left to the places of what it leaves, in rising order. None sorts a
vocabulary if it can be helped. What is cut off begins somewhere in an order, so the cut is sought among the few that
are within a bound of the first in that order; where it is not there, within a wider bound, at last among all.
"""

from collections.abc import Callable
from functools import partial
from math import log

import numpy as np

from lmworks.generate.drawing import cumulated_blocks, entries_reaching, exponentials, scaled
from lmworks.generate.protocol import SamplingParameters

_BOUNDS = (1e-3, 1e-4, 0.0)  # of a token's probability, in units of the largest one
_DISTANCES = (5.0, np.inf)  # of a token's information from the entropy, in nats


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
    return np.arange(len(logits))


def top_p(logits: np.ndarray, temperature: float, mass: float) -> np.ndarray:
    """The nucleus: the fewest tokens whose probability reaches the mass (Holtzman et al. 2020, section 3.1)."""
    weights = exponentials(logits, temperature)
    total = cumulated_blocks(weights)[-1]
    for bound in _BOUNDS:
        largest = np.sort(weights[weights >= bound])[::-1]
        count = entries_reaching(largest, mass * total)
        if count <= len(largest):
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
