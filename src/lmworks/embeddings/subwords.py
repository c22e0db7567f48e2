"""Words as the sum of their parts: character n-grams, hashed as fastText does (Bojanowski et al. 2017, section 3.2).

A word is written with < before and > behind it, so that n-grams at its ends are others than those inside. Each n-gram
has the number of a bucket, the hash FNV-1a of 32 bits (over bytes as signed numbers, which is fastText's slip and now
part of the format) modulo `Subwords.buckets`. Only buckets that a word of the vocabulary falls into have a vector: the
others were never trained, and a vector for a new word is made without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.embeddings import library
from lmworks.embeddings.config import Subwords

_OFFSET, _PRIME = 2166136261, 16777619


@dataclass(frozen=True, slots=True, eq=False)
class NGrams:
    """buckets  (n,) int32, sorted: those that have a vector
    vectors  (n, dimensions) float32
    """

    subwords: Subwords
    buckets: np.ndarray
    vectors: np.ndarray

    def vector(self, word: str) -> np.ndarray | None:
        """(dimensions,) float32: the mean over the known n-grams of a word; None when there are none."""
        wanted, _ = ngram_buckets([word], self.subwords)
        places = np.searchsorted(self.buckets, wanted).clip(max=max(len(self.buckets) - 1, 0))
        places = places[self.buckets[places] == wanted] if len(self.buckets) else places[:0]
        return self.vectors[places].mean(axis=0) if len(places) else None


def ngrams_of(word: str, subwords: Subwords) -> list[str]:
    """The n-grams of a word in the order of their beginnings and then of their lengths; < or > alone is none."""
    marked = f"<{word}>"
    found = []
    for start in range(len(marked)):
        for length in range(subwords.shortest, min(subwords.longest, len(marked) - start) + 1):
            if length > 1 or 0 < start < len(marked) - 1:
                found.append(marked[start : start + length])
    return found


def bucket_of(ngram: str, buckets: int) -> int:
    """The number of the bucket into which an n-gram falls."""
    value = _OFFSET
    for byte in ngram.encode():
        signed = byte if byte < 128 else byte + 0xFFFFFF00
        value = (value ^ signed) * _PRIME & 0xFFFFFFFF
    return value % buckets


def ngram_buckets(words: Sequence[str], subwords: Subwords) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int32 the buckets of all n-grams of words, and (words,) int64 how many there are up to each word's last."""
    compiled = library.load()
    if compiled is None:
        lists = [[bucket_of(ngram, subwords.buckets) for ngram in ngrams_of(word, subwords)] for word in words]
        return np.array([b for each in lists for b in each], np.int32), np.cumsum(
            [len(b) for b in lists], dtype=np.int64
        )
    spelled = [f"<{word}>".encode() for word in words]
    ends, found_ends = np.cumsum([len(word) for word in spelled], dtype=np.int64), np.empty(len(words), np.int64)
    text = b"".join(spelled)

    def run(to: int | None) -> int:
        return compiled.lmworks_vectors_ngrams(
            text, ends.ctypes.data, len(words), subwords.shortest, subwords.longest, subwords.buckets, to,
            found_ends.ctypes.data,
        )  # fmt: skip

    buckets = np.empty(run(None), np.int32)
    run(buckets.ctypes.data)
    return buckets, found_ends
