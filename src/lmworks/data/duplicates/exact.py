"""Documents with equal texts, by the SHA-256 of what is left of a text when it is normalised."""

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.words import word_bytes

Form = Literal["text", "spaces", "words"]
_SPACES = re.compile(r"\s+")


def canonical(text: str, form: Form = "spaces") -> bytes:
    """What two texts must share to be equal.

    text    every character
    spaces  the same characters but for the lengths and kinds of spaces, and those at the ends
    words   the same words, whatever stands between them and however they are capitalised: "x = -1" is "X: 1"
    """
    if form == "words":
        return b" ".join(word_bytes(text).split())
    return (_SPACES.sub(" ", text).strip() if form == "spaces" else text).encode("utf-8", "surrogatepass")


def digests(texts: Iterable[str], form: Form = "spaces") -> NDArray[np.uint64]:
    """(texts, 4) uint64: the SHA-256 of each. Those of parts of a corpus may be put together."""
    joined = b"".join(hashlib.sha256(canonical(text, form)).digest() for text in texts)
    return np.frombuffer(joined, "<u8").astype(np.uint64).reshape(-1, 4)


def first_equal(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(n,) int64: for each of (n, columns) rows the first that is equal, which for most is itself.

    The first is the best where documents are numbered by `clusters.by_priority`.
    """
    order = np.lexsort(digests.T[::-1])
    ordered = digests[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first
