"""Which of very many hashes are among some: a table of bits answers for most, a binary search for the rest."""

import numpy as np
from numpy.typing import NDArray

_FILLED = 16  # bits for each key, so that one hash in 16 that is no key is searched for all the same
_LEAST, _MOST = 10, 27  # logarithms of the size of the table, which has a byte for each bit


class HashLookup:
    """Finds hashes of 64 well mixed bits among `keys`, (n,) uint64, sorted."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._keys = keys
        bits = min(max((len(keys) * _FILLED).bit_length(), _LEAST), _MOST)
        self._shift = np.uint64(64 - bits)
        self._possible = np.zeros(2**bits, bool)
        self._possible[(keys >> self._shift).astype(np.int64)] = True

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places, slots): `hashes[places]` are those among the keys, and `keys[slots]` the first keys they equal."""
        places = np.flatnonzero(self._possible[(hashes >> self._shift).astype(np.int64)])
        slots = np.searchsorted(self._keys, hashes[places])
        found = np.flatnonzero(slots < len(self._keys))
        places, slots = places[found], slots[found]
        equal = self._keys[slots] == hashes[places]
        return places[equal], slots[equal]
