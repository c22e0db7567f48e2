"""Late interaction: two texts compared token by token instead of vector by vector, over token vectors that are stored.

A stored token vector is projected to `STORED_WIDTH` dimensions and kept in int8: 128 bytes a token instead of 1,536, at
the same ranking (docs/measured/retrieval.md has the figures).
"""

from collections.abc import Sequence

import numpy as np

STORED_WIDTH = 128


def principal_axes(vectors: np.ndarray, width: int = STORED_WIDTH) -> np.ndarray:
    """(dimensions, width) float32: the axes along which the rows of `vectors`, (n, dimensions), have most length.

    Axes without length complete the basis; never more than there are dimensions.
    """
    values, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(axes[:, np.argsort(-values, kind="stable")[:width]], dtype=np.float32)


def project(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(tokens, width) float32, rows of length 1: token vectors on the axes, to be compared with stored ones."""
    return _unit(vectors @ axes)


def to_int8(vectors: np.ndarray) -> np.ndarray:
    """(tokens, width) int8; each row by its own largest value, as `from_int8` needs its direction only."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-12)
    return np.rint(vectors * (127 / largest)).astype(np.int8)


def from_int8(stored: np.ndarray) -> np.ndarray:
    """(tokens, width) float32, rows of length 1."""
    return _unit(stored.astype(np.float32))


def late_interaction(query: np.ndarray, passages: Sequence[np.ndarray]) -> np.ndarray:
    """MaxSim of a query with each passage: the mean over query tokens of the highest cosine with a passage token.

    `query` (query tokens, width) and each passage (passage tokens, width) are rows of length 1. This is MaxSim of
    ColBERT (Khattab & Zaharia, 2020, section 3.3), divided by the length of the query so that queries compare;
    (passages,) float64, 0 where either is empty.
    """
    scores = np.zeros(len(passages))
    filled = [number for number, passage in enumerate(passages) if len(passage)]
    if filled and len(query):
        similarity = query @ np.concatenate([passages[number] for number in filled]).T  # (query tokens, all tokens)
        starts = np.cumsum([0, *(len(passages[number]) for number in filled[:-1])])
        scores[filled] = np.maximum.reduceat(similarity, starts, axis=1).mean(axis=0)
    return scores


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
