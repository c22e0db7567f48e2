"""Random numbers that belong to a row of a batch, whatever stands next to it."""

import numpy as np
from numpy.typing import NDArray

from lmworks.data.batches import PADDING, Batch


def generator_of(seed: int, source: int, sequence: int, piece: int = 0) -> np.random.Generator:
    """The random numbers of one sequence of a source, or of one piece of it, at one visit: the same in any batch.

    `seed` says which visit it is; the loop counts it up with the batches.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(source, sequence, piece))))


def pieces_of(documents: NDArray[np.int64], apart: bool = True) -> list[slice]:
    """The places of the pieces of documents in a row; `documents` (length,) as in `Batch`, with padding at its end.

    Without `apart` all that is no padding is one piece.
    """
    real = int((documents != PADDING).sum())
    if not apart or not real:
        return [slice(0, real)] if real else []
    borders = np.flatnonzero(np.diff(documents[:real])) + 1
    return [slice(start, stop) for start, stop in zip([0, *borders], [*borders, real], strict=True)]


def numbers_of(batch: Batch) -> list[tuple[int, int]]:
    """(source, sequence) of each row."""
    return list(zip(batch.sources.tolist(), batch.sequences.tolist(), strict=True))
