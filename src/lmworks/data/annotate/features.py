"""What learned measures see of a text: its tokens, casefolded, as hashed n-grams.

A model on disk is worth something only as long as these functions give what they gave when it was trained: whoever
changes that, here or in `words.py`, raises `FEATURES`, and models of before are refused.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmworks.data.order import mix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEATURES = 1

_NEWLINE = 10
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it is 0 modulo 2^64


def token_hashes(tokens: Sequence[str]) -> NDArray[np.uint64]:
    """(tokens,) a number for each, whatever its case: the same ones on all machines and for all time.

    The bytes of a token are the coefficients of a polynomial at `_BASE`, modulo 2^64, whose value is mixed. Tokens hold
    no newline.
    """
    if not tokens:
        return np.zeros(0, np.uint64)
    data = np.frombuffer(("\n".join(tokens).casefold() + "\n").encode("utf-8", "surrogatepass"), np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    if len(ends) != len(tokens):
        raise ValueError("a token holds a newline")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    places = np.arange(len(data)) - np.repeat(starts, lengths)
    powers = np.full(lengths.max(), _BASE)
    powers[0] = 1
    powers = np.cumprod(powers)
    return mix(np.add.reduceat((data.astype(np.uint64) + np.uint64(1)) * powers[places], starts))


def hashed_ngrams(tokens: Sequence[str], order: int, bits: int) -> NDArray[np.int64]:
    """A bucket from 0 to 2^`bits` - 1 for each n-gram of 1 to `order` tokens; short n-grams come first."""
    single = token_hashes(tokens)
    grams, found = single, [single]
    for length in range(2, min(order, len(tokens)) + 1):
        grams = mix(grams[:-1] * _BASE + single[length - 1 :])
        found.append(grams)
    return (np.concatenate(found) >> np.uint64(64 - bits)).astype(np.int64)


def count_matrix(texts: Iterable[Sequence[str]], order: int, bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: how often each bucket occurs in each text, which is given as its tokens."""
    from scipy.sparse import csr_matrix

    rows = [hashed_ngrams(tokens, order, bits) for tokens in texts]
    bounds = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    buckets = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    matrix = csr_matrix((np.ones(len(buckets)), buckets, bounds), shape=(len(rows), 1 << bits))
    matrix.sum_duplicates()
    return matrix


def size_of(matrix: "csr_matrix") -> tuple[int, int]:
    """Its rows and columns; SciPy says of no matrix that it surely has them."""
    rows, columns = matrix.shape  # pyright: ignore[reportGeneralTypeIssues]
    return int(rows), int(columns)


def check_sizes(order: int, bits: int) -> None:
    """ValueError for n-grams or a number of buckets that make no sense."""
    if not 1 <= order <= 5:
        raise ValueError(f"order must be between 1 and 5 tokens, got {order}")
    if not 8 <= bits <= 26:
        raise ValueError(f"bits must be between 8 and 26 (of 2^bits buckets), got {bits}")
