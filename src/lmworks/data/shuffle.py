"""The order of an epoch: a permutation that can be asked for any of its places, and remembers none.

A Feistel network turns keyed hashing into a permutation of b-bit numbers (Luby & Rackoff 1988); walking along its
cycles until a number below n turns up makes it one of any n (Black & Rogaway 2002, "Ciphers with arbitrary finite
domains", cycle-walking).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import mix

ROUNDS = 8  # each of the two halves is keyed four times; the tests ask for uniform places and neighbours


def in_epochs(draws: NDArray[np.int64], size: int, seed: int, name: str) -> NDArray[np.int64]:
    """The items that draws of a source of `size` items show, (n,) int64: each epoch all, in an order of its own."""
    epochs, places = np.divmod(draws, size)
    shown = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        shown[here] = Permutation(size, f"{seed} {epoch} {name}")(places[here])
    return shown


class Permutation:
    """A permutation of 0 … size - 1, of at most 2^62 numbers, that depends on `size` and `key` alone.

    `key` is any text, such as seed, source and epoch; other keys give unrelated permutations.
    """

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        # Halves of one or two bits make some orders likelier than others; of three bits, no test sees it.
        bits = max((size - 1).bit_length(), 6)
        self._low, self._high = np.uint64(bits // 2), np.uint64(bits - bits // 2)
        digest = hashlib.sha512(key.encode()).digest()
        self._keys = np.frombuffer(digest, "<u8", ROUNDS)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers at these places, (n,) int64 from 0 to `size` - 1."""
        values = self._encrypt(places.astype(np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._encrypt(values[outside])
        return values.astype(np.int64)

    def _encrypt(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """A permutation of the numbers of this many bits: by turns, each part is changed by a hash of the other."""
        one = np.uint64(1)
        high, low = values >> self._low, values & ((one << self._low) - one)
        for turn in range(0, ROUNDS, 2):
            high = high ^ (mix(low ^ self._keys[turn]) >> (np.uint64(64) - self._high))
            low = low ^ (mix(high ^ self._keys[turn + 1]) >> (np.uint64(64) - self._low))
        return (high << self._low) | low
