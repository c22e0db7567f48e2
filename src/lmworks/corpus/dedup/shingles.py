"""Texts as sets of hashed word n-grams, their shingles (Broder 1997, "On the resemblance and containment of
documents").

Hashes have 64 bits and are the same in every process (`reference` defines them). Among a billion shingles, two that
differ and are taken for equal are expected once in 37 such collections.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup import library, reference
from lmworks.corpus.dedup.hashes import HashRows, word_bytes

WORDS = 5  # of a shingle
BATCH = 4_000_000  # characters that are hashed at once: large enough that calls cost nothing, small enough for memory


def batches(texts: Iterable[str], characters: int = BATCH) -> Iterator[list[str]]:
    """Lists of neighbouring texts, each ended by the one that reaches so many characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 1
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def hash_words(texts: Iterable[str]) -> HashRows:
    """The words of each text in their order, hashed."""
    pieces = [word_bytes(text) + b"\n" for text in texts]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    joined = np.frombuffer(b"".join(pieces), np.uint8)
    compiled = library.load()
    if compiled is None:
        return reference.hash_words(joined, ends)
    values = np.empty(len(joined) // 2 + 1, np.uint64)  # a word is a byte at least, and so is what separates it
    row_ends = np.empty(len(ends), np.int64)
    number = compiled.lmworks_data_hash_words(
        joined.ctypes.data, ends.ctypes.data, len(ends), values.ctypes.data, row_ends.ctypes.data
    )
    return HashRows(values[:number].copy(), row_ends)


def shingle_sets(texts: Iterable[str], size: int = WORDS) -> HashRows:
    """The shingles of each text: a sorted row in which every hash stands once.

    A text of fewer than `size` words has one shingle, of all of them; one without a word has none. ValueError for a
    size below 1.
    """
    if size < 1:
        raise ValueError(f"a shingle has at least one word, got {size}")
    words = hash_words(texts)
    compiled = library.load()
    if compiled is None:
        return reference.shingle_sets(words, size)
    values, ends = np.empty(len(words.values), np.uint64), np.empty(len(words), np.int64)
    number = compiled.lmworks_data_shingle_sets(
        words.values.ctypes.data, words.ends.ctypes.data, len(words), size, values.ctypes.data, ends.ctypes.data
    )
    return HashRows(values[:number].copy(), ends)


def common_counts(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) int64: how many shingles the two rows of each of (n, 2) pairs share. IndexError for a row there is not."""
    pairs = np.ascontiguousarray(pairs, np.int64).reshape(-1, 2)
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(sets):
        raise IndexError(f"a pair of rows outside of {len(sets)}")
    compiled = library.load()
    if compiled is None:
        return reference.common(sets, pairs)
    found = np.empty(len(pairs), np.int64)
    compiled.lmworks_data_common(
        sets.values.ctypes.data, sets.ends.ctypes.data, pairs.ctypes.data, len(pairs), found.ctypes.data
    )
    return found


def similarities(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) the Jaccard similarity of the two rows of each of (n, 2) pairs. ValueError for two empty rows."""
    common = common_counts(sets, pairs)
    lengths = sets.lengths
    union = lengths[pairs[:, 0]] + lengths[pairs[:, 1]] - common
    if (union == 0).any():
        raise ValueError("two texts without a word have no similarity")
    return common / union
