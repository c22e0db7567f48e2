"""A softmax, where its cumulated mass reaches something, and a draw from it, without cumulating a whole vocabulary.

A row is cut into blocks. A block is summed in float32 as one piece, the few sums of a row in float64. A place is sought
among the sums of the blocks first and then inside one block. Everything here concerns one row, so no row can see
another, not even in its last bit.
"""

from math import log

import numpy as np

_BLOCK = 256  # summing so many positive float32 keeps a relative error of 1e-7


def scaled(logits: np.ndarray, temperature: float) -> np.ndarray:
    """(logits - their maximum) / temperature: (n,) float32 -> (n,) float32. The maximum is finite."""
    values = logits - logits.max()
    values /= np.float32(temperature)
    return values


def exponentials(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The weights of a softmax: exp of the scaled logits, (n,) float32 -> (n,) float32."""
    values = scaled(logits, temperature)
    return np.exp(values, out=values)


def cumulated_blocks(weights: np.ndarray) -> np.ndarray:
    """The sum up to the end of each block: (n,) float32 -> (blocks,) float64; the last one is the total."""
    return np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).cumsum(dtype=np.float64)


def entries_reaching(weights: np.ndarray, mass: float) -> int:
    """How many of the first weights (n,) it takes until their sum reaches the mass; n + 1 where all of them do not."""
    reached = cumulated_blocks(weights)
    block = int(reached.searchsorted(mass))
    if block == len(reached):
        return len(weights) + 1
    before = reached[block - 1] if block else 0.0
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    return block * _BLOCK + min(int(inside.searchsorted(mass - before)) + 1, len(inside))


def draw_from(weights: np.ndarray, draw: float) -> tuple[int, float]:
    """The first entry at which the cumulated weight passes a part, in [0, 1), of the total.

    weights (n,) float32, not negative and not all zero; an entry without weight is never drawn. Returns the entry and
    the ln of its probability.
    """
    reached = cumulated_blocks(weights)
    target = draw * reached[-1]
    block = int(reached.searchsorted(target, side="right"))
    before = reached[block - 1] if block else 0.0
    # How far the draw lies inside its block, in [0, 1): told as a part, because the float64 sum of the block's entries
    # differs from its float32 sum in the last digits.
    part = (target - before) / (reached[block] - before)
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    entry = block * _BLOCK + int(inside.searchsorted(part * inside[-1], side="right"))
    return entry, log(weights[entry] / reached[-1])
