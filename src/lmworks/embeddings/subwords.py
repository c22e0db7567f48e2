"""Words as the sum of their parts: character n-grams, hashed as fastText does (Bojanowski et al. 2017, section 3.2).

A word is written with < before and > behind it, so that n-grams at its ends are others than those inside. Each n-gram
has the number of a bucket, the hash FNV-1a of 32 bits (over bytes as signed numbers, which is fastText's slip and now
part of the format) modulo `Subwords.buckets`. Only buckets that a word of the vocabulary falls into have a vector: the
others were never trained, and a vector for a new word is made without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.embeddings.config import Subwords

_OFFSET, _PRIME = np.uint32(2166136261), np.uint32(16777619)
_AT_ONCE = 1 << 16  # words


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
        buckets, _ = ngram_buckets([word], self.subwords)
        rows = np.searchsorted(self.buckets, buckets)
        buckets, rows = buckets[rows < len(self.buckets)], rows[rows < len(self.buckets)]
        rows = rows[self.buckets[rows] == buckets]
        return self.vectors[rows].mean(axis=0) if len(rows) else None


def ngram_buckets(words: Sequence[str], subwords: Subwords) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int32 the buckets of all n-grams of words, and (words,) int64 how many there are up to each word's last.

    Those of a word are in the order of their beginnings and then of their lengths; < or > alone is none.
    """
    blocks = [
        _buckets_and_counts(words[start : start + _AT_ONCE], subwords) for start in range(0, len(words), _AT_ONCE)
    ]
    buckets, counts = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    return buckets, np.cumsum(counts, dtype=np.int64)


def _buckets_and_counts(words: Sequence[str], subwords: Subwords) -> tuple[np.ndarray, np.ndarray]:
    """Buckets as above, and how many each word has: hashes grow from every character on, one more at a time."""
    lengths = np.array([len(word) + 2 for word in words])
    word_ends = np.cumsum(lengths)
    utf8 = np.frombuffer("".join(f"<{word}>" for word in words).encode(), np.uint8)
    starts = np.flatnonzero((utf8 & 0xC0) != 0x80)  # of characters
    sizes = np.diff(starts, append=len(utf8))
    signed = utf8.astype(np.int8).astype(np.uint32)
    begins = np.arange(len(starts))
    left = np.repeat(word_ends, lengths) - begins  # characters from here to the end of the word
    edges = np.isin(begins, [word_ends - lengths, word_ends - 1])
    hashes = np.full(len(starts), _OFFSET, np.uint32)
    buckets, chosen = [], []
    for length in range(1, subwords.longest + 1):
        inside = begins[left >= length]
        last = inside + length - 1  # the character that is new
        for byte in range(4):
            has_byte = sizes[last] > byte
            inside, last = inside[has_byte], last[has_byte]
            hashes[inside] = (hashes[inside] ^ signed[starts[last] + byte]) * _PRIME
        if length >= subwords.shortest:
            buckets.append(hashes % np.uint32(subwords.buckets))
            chosen.append((left >= length) & ~((length == 1) & edges))
    mask = np.stack(chosen, axis=1)  # (characters, lengths)
    counts = np.add.reduceat(mask.sum(axis=1), word_ends - lengths)
    return np.stack(buckets, axis=1)[mask].astype(np.int32), counts
