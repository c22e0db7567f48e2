"""How many copies of each document: an order of all copies, of which a quota takes the beginning.

A document with the draw u, uniform in [0, 1) by its hash and the seed, that counts f times, has floor(L·f + u) copies
at the level L: f·L in expectation, and always one of the two whole numbers around it. A level of 1 takes all documents
that count once exactly once. The level rises until the quota is reached, so each document is decided by its own hash
and one number: another quota, or more documents, moves the level and nothing else (bottom-k sampling: Cohen & Kaplan
2007, "Summarizing data using bottom-k sketches").
"""

import numpy as np
from numpy.typing import NDArray

from lmworks.data.order import mix


def uniform(hashed: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Hashes (n,) → numbers in [0, 1), multiples of 2^-53, that depend on each hash and the seed alone."""
    keyed = mix(hashed ^ mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return (keyed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_copies(
    draws: NDArray[np.float64],
    factors: NDArray[np.float64],
    sizes: NDArray[np.int64],
    most: NDArray[np.int64],
    quota: int,
    limit: int,
    ties: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Copies (n,) of documents, of which all together have the size nearest to the quota that a level, and the order
    among equal levels, gives: never more than `limit`, and from the quota by less than one document.

    draws, factors, sizes  (n,) of each document: u in [0, 1), f above 0, and its size, positive
    most                   (n,) copies that it may have
    quota, limit           in the unit of the sizes, quota <= limit <= what all copies together have
    ties                   (n,) the order of copies that come at one level, as happens for equal texts

    Levels are floats. L·f + u rises with L in floats as well, so that the copies of a lower level are among those of a
    higher one. Bisection goes on until two neighbouring floats enclose the quota, and looks only at documents that
    differ between its ends.
    """

    def at(level: float, places: NDArray[np.int64]) -> NDArray[np.int64]:
        raised = np.floor(level * factors[places] + draws[places]).astype(np.int64)
        return np.minimum(raised, most[places])

    copies = np.zeros(len(sizes), np.int64)
    active = np.arange(len(sizes))
    low, high = 0.0, 1.0
    while (full := at(high, active)) @ sizes <= quota:
        if (full == most).all():
            return full
        low, high = high, 2 * high
    copies[:] = at(low, active)
    taken = int(copies @ sizes)  # at the level low
    while (middle := low + (high - low) / 2) not in (low, high):
        here = at(middle, active)
        size = taken + int((here - copies[active]) @ sizes[active])
        if size <= quota:
            low, taken = middle, size
            copies[active] = here
            moving = at(high, active) > here
        else:
            high = middle
            moving = here > copies[active]
        active = active[moving]
    return _with_ties(copies, at(high, active) - copies[active], active, sizes, (taken, quota, limit), ties)


def _with_ties(
    copies: NDArray[np.int64],
    more: NDArray[np.int64],
    active: NDArray[np.int64],
    sizes: NDArray[np.int64],
    amounts: tuple[int, int, int],
    ties: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """The copies of a level, and those that come at the next one as far as they bring the size nearer to the quota;
    `amounts` are what the former have, the quota and the limit."""
    taken, quota, limit = amounts
    events = np.repeat(active, more)
    events = events[np.argsort(ties[events], kind="stable")]
    after = taken + np.concatenate([[0], np.cumsum(sizes[events])])
    allowed = after[after <= limit]
    best = int(np.argmin(np.abs(allowed - quota)))
    copies = copies.copy()
    np.add.at(copies, events[:best], 1)
    return copies
