"""For each place of a byte string, the earliest at which the same bytes begin: by a suffix array, or by its definition.

The suffix array is that of libdivsufsort. Neighbours in it whose longest common prefix (Kasai et al. 2001) has the
wanted length begin with the same bytes, so that runs of such neighbours are all the places of one string.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["suffix array", "doubling"]


def first_occurrences(text: NDArray[np.uint8], length: int, method: Method = "suffix array") -> NDArray[np.int64]:
    """(len(text) - length + 1,) int64: for each place the earliest one at which the same `length` bytes begin.

    `suffix array` needs pydivsufsort and some 25 bytes of memory for each of the text; `doubling` needs numpy, 60 bytes
    and ten times as long. ValueError for a length below 1, ModuleNotFoundError without pydivsufsort.
    """
    if length < 1:
        raise ValueError(f"a string has at least one byte, got {length}")
    if len(text) <= length:
        return np.arange(max(len(text) - length + 1, 0))
    return _by_suffix_array(text, length) if method == "suffix array" else _by_doubling(text, length)


def _by_suffix_array(text: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    try:
        from pydivsufsort import divsufsort, kasai
    except ImportError:
        raise ModuleNotFoundError(
            "repeated passages are found by pydivsufsort: pip install pydivsufsort, or ask for the method 'doubling', "
            "which is slow"
        ) from None
    text = np.array(text)  # a copy that may be written to: the library takes no other
    suffixes = divsufsort(text)
    common = kasai(text, suffixes)  # [i] is of suffixes i and i + 1
    starts = np.concatenate(([0], np.flatnonzero(common[:-1] < length) + 1))
    earliest = np.minimum.reduceat(suffixes, starts)
    earliest = np.repeat(earliest, np.diff(np.append(starts, len(suffixes))))
    first = np.arange(len(text) - length + 1)
    long = suffixes < len(first)
    first[suffixes[long]] = earliest[long]
    return first


def _by_doubling(text: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """Ranks of strings of some length, from the pairs of ranks of two shorter ones, which may overlap (Karp, Miller &
    Rosenberg 1972)."""
    ranks, known = text.astype(np.int64), 1
    while known < length:
        step = min(known, length - known)
        pairs = ranks[:-step] * (int(ranks.max()) + 1) + ranks[step:]
        ranks = np.unique(pairs, return_inverse=True)[1]
        known += step
    _, places, ranks = np.unique(ranks, return_index=True, return_inverse=True)
    return places[ranks]
