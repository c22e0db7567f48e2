"""Signatures whose share of equal places estimates the Jaccard similarity of two texts (MinHash, Broder 1997).

The classical signature hashes every shingle once for each of its k places. Here shingles are thrown into the places,
turn after turn with another hash, until no place is empty (fast similarity sketching, Dahlgaard, Knudsen & Thorup 2017,
algorithm 1); a place keeps the least hash of the first turn that reached it. A text of n shingles costs about
n + k ln k hashes instead of n k, for 128 places and 500 shingles a fiftieth. The estimate is as the classical one:
each place agrees with probability J, so its mean is J, and its variance is at most the J (1 - J) / k of independent
places. One permutation hashing, as cheap, has places without a shingle, which short texts have many of; those borrowed
from a neighbour (densification) raise the variance.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates import library, reference
from lmworks.data.duplicates.rows import HashRows
from lmworks.data.duplicates.shingles import WORDS, batches, hash_words

PERMUTATIONS = 128
NOTHING = np.uint32(2**32 - 1)  # in all places of the signature of a text without a word


def sign(words: HashRows, size: int = WORDS, permutations: int = PERMUTATIONS, seed: int = 0) -> NDArray[np.uint32]:
    """(rows, permutations) uint32: the signatures of rows of words, by their shingles of `size` words.

    Of each place the lower half of its least hash is kept, by which two different shingles agree once in 2^32 times.
    ValueError for a size, permutations or a seed out of range.
    """
    if size < 1:
        raise ValueError(f"a shingle has at least one word, got {size}")
    if not 1 <= permutations <= 2**16:
        raise ValueError(f"a signature has between 1 and 65,536 places, got {permutations}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed lies between 0 and 2^64 - 1, got {seed}")
    compiled = library.load()
    if compiled is None:
        return reference.signatures(words, size, permutations, seed)
    signatures = np.empty((len(words), permutations), np.uint32)
    library.check(
        compiled.lmworks_data_signatures(
            words.values.ctypes.data, words.ends.ctypes.data, len(words), size, permutations, seed,
            signatures.ctypes.data,
        )
    )  # fmt: skip
    return signatures


def signatures(
    texts: Iterable[str],
    size: int = WORDS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    compatibility: bool = False,
) -> NDArray[np.uint32]:
    """(texts, permutations) uint32: the signatures of texts, some megabytes at a time."""
    signed = [sign(hash_words(batch, compatibility), size, permutations, seed) for batch in batches(texts)]
    return np.concatenate([np.empty((0, permutations), np.uint32), *signed])


def estimate(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> NDArray[np.float64]:
    """(...,) the estimated Jaccard similarity of (..., permutations) signatures. Texts without a word have none: their
    signatures agree in all places, and the caller leaves them out."""
    return np.asarray(np.mean(first == second, axis=-1, dtype=np.float64))
