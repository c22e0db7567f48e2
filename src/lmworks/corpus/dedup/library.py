"""Words, shingles, signatures and windows of bytes as hashes: by the compiled library, or by NumPy where it was not
built.

Each is a loop of a few instructions a word, which NumPy would have to write to memory and read again step by step.
Every function has its definition in `reference`, with the same results bit by bit.
"""

import ctypes
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lmworks.compiled import open_library
from lmworks.corpus.dedup import reference
from lmworks.corpus.dedup.hashes import PERMUTATIONS, WORDS, HashRows, word_bytes

CHOICE = "LMWORKS_CORPUS"  # environment variable: "reference" has everything run in Python


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    return open_library("corpus", CHOICE, "duplicates are searched by NumPy, some ten times as slowly")


def _call(library: ctypes.CDLL, name: str, *arguments: np.ndarray | int) -> int:
    """The result of a function of the library, which gets arrays as they lie in memory."""
    function = getattr(library, f"lmworks_corpus_{name}")
    function.restype = ctypes.c_int64
    given = (ctypes.c_int64(each) if isinstance(each, int) else ctypes.c_void_p(each.ctypes.data) for each in arguments)
    result = function(*given)
    if result == -1:
        raise MemoryError("not enough memory to hash a text: give fewer or shorter texts at once")
    return result


def hash_words(texts: Iterable[str]) -> HashRows:
    """The words of each text in their order, hashed."""
    pieces = [word_bytes(text) + b"\n" for text in texts]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    joined = np.frombuffer(b"".join(pieces), np.uint8)
    if (library := load()) is None:
        return reference.hash_words(joined, ends)
    values = np.empty(len(joined) // 2 + 1, np.uint64)  # a word is a byte at least, and so is what separates it
    row_ends = np.empty(len(ends), np.int64)
    number = _call(library, "hash_words", joined, ends, len(ends), values, row_ends)
    return HashRows(values[:number].copy(), row_ends)


def shingle_sets(texts: Iterable[str], size: int = WORDS) -> HashRows:
    """The shingles of each text: a sorted row in which every hash stands once.

    A text of fewer than `size` words has one shingle, of all of them; one without a word has none.
    """
    words = hash_words(texts)
    if (library := load()) is None:
        return reference.shingle_sets(words, size)
    values, ends = np.empty(len(words.values), np.uint64), np.empty(len(words), np.int64)
    number = _call(library, "shingle_sets", words.values, words.ends, len(words), size, values, ends)
    return HashRows(values[:number].copy(), ends)


def common_counts(sets: HashRows, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) int64: how many shingles the two rows of each of (n, 2) pairs share. IndexError for a row there is not."""
    pairs = np.ascontiguousarray(pairs, np.int64).reshape(-1, 2)
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(sets):
        raise IndexError(f"a pair of rows outside of {len(sets)}")
    if (library := load()) is None:
        return reference.common(sets, pairs)
    found = np.empty(len(pairs), np.int64)
    _call(library, "common", sets.values, sets.ends, pairs, len(pairs), found)
    return found


def signatures(words: HashRows, size: int = WORDS, permutations: int = PERMUTATIONS) -> NDArray[np.uint32]:
    """(rows, permutations) uint32: the signatures of rows of words, by their shingles of `size` words.

    Of each place the lower half of its least hash is kept, by which two different shingles agree once in 2^32 times.
    """
    if (library := load()) is None:
        return reference.signatures(words, size, permutations)
    found = np.empty((len(words), permutations), np.uint32)
    _call(library, "signatures", words.values, words.ends, len(words), size, permutations, 0, found)
    return found


def winnow(text: NDArray[np.uint8], window: int, width: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, places) of the windows of so many bytes that have the least hash of any run of `width` neighbours, in
    order; of runs that an end of the text cuts off as well."""
    if (library := load()) is None:
        return reference.winnow(text, window, width)
    text = np.ascontiguousarray(text)
    hashes, places = np.empty(len(text), np.uint64), np.empty(len(text), np.int64)
    number = _call(library, "winnow", text, len(text), window, width, hashes, places)
    return hashes[:number].copy(), places[:number].copy()
