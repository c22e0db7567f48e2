"""Nearest chunks by cosine: exact over all vectors, or proposed by an approximate store derived from them.

A store is a hierarchical navigable small-world graph (Malkov & Yashunin, 2018, algorithms 1 to 5), in a file next to
the index (`usearch_store.py`) or in PostgreSQL (`pgvector_store.py`). It only proposes: cosines are computed from the
index's own vectors, and where a store cannot propose enough, all of them are read instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lmworks.artefact import read_json, write_json
from lmworks.config import from_mapping
from lmworks.retrieve.catalogue import UnusableIndexError
from lmworks.retrieve.config import EXACT, USEARCH, IndexConfig
from lmworks.retrieve.pgvector_store import PgvectorStore, check_server
from lmworks.retrieve.usearch_store import GRAPH, UsearchStore

STORE = "store.json"  # which store an index has; an index without this file is searched exactly
EXACT_ROWS = 20_000  # so many rows are read whole in less time than a filter costs a graph
MOST_ASKED = 1_000  # that a store is asked for at once; beyond, all vectors are read
BLOCK = 65_536  # vectors that are handled at once
SPARE = 2.0  # times more than should do are asked for: exact cosines order them again, and filters are uneven
RECALL_AT, SAMPLE = 10, 200
LEAST_RECALL = 0.9  # a store that finds less is not kept


class VectorStore(Protocol):
    """Approximate nearest neighbours; a chunk is known by its position in the index's order of uri and place."""

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Positions (k,) int64 near a query (width,), in any order; fewer where the graph gives no more."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Record of the store of an index. `key` names the content that it was built from.

    `recall` is the measured recall@10 against exact, the mean over a sample of the index's own vectors.
    """

    store: str
    key: str
    vectors: int
    recall: float
    sample: int


def cosines(matrix: np.ndarray, query: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
    """(positions,) float32: cosines of the query with rows of length 1 of `matrix`, (n, width) float32; a few rows are
    gathered, many are read in the order of the matrix."""
    query = query.astype(np.float32)
    if positions is None or 4 * len(positions) > len(matrix):
        every = matrix @ query
        return every if positions is None else every[positions]
    return np.einsum("ij,j->i", matrix[positions], query)


def nearest(
    size: int,
    cosines_of: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    query: np.ndarray,
    k: int,
    allowed: np.ndarray | None = None,
    store: VectorStore | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cosines of the `k` nearest of `size` vectors, best first, equal ones in the order of positions.

    `cosines_of` computes the cosines of a query with the vectors at some positions, or all. `allowed` are the positions
    that may be found, None is all: `k` of them are returned whenever as many exist. A store is asked for so many that
    `k` should pass; exact without a store, for few allowed ones, and where too few passed.
    """
    count = size if allowed is None else len(allowed)
    k = min(k, count)
    if k < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    positions = allowed
    asked = math.ceil(SPARE * k * size / count)
    if store is not None and asked <= MOST_ASKED and (allowed is None or count > EXACT_ROWS):
        proposed = np.sort(store.search(query, asked))
        if allowed is not None:  # both rise: each is looked up where it would stand
            proposed = proposed[allowed[np.searchsorted(allowed, proposed).clip(max=count - 1)] == proposed]
        if len(proposed) >= k:
            positions = proposed
    values = cosines_of(query, positions)
    least = np.partition(values, len(values) - k)[len(values) - k]
    best = np.flatnonzero(values >= least)  # more than k where cosines are equal
    best = best[np.argsort(-values[best], kind="stable")][:k]
    return (best if positions is None else positions[best]), values[best]


def measured_recall(matrix: np.ndarray, store: VectorStore, sample: int = SAMPLE) -> tuple[float, int]:
    """Recall@10 against exact, and over how many vectors: the mean over a sample of the index's own, drawn by seed 0.

    Each is a query for its neighbours, itself left out. One as near as the exact tenth counts as found, so that equal
    vectors may stand in for each other.
    """
    drawn = np.random.default_rng(0).permutation(len(matrix))[:sample]
    k = min(RECALL_AT, len(matrix) - 1)
    if k < 1:
        return 1.0, 0
    queries = matrix[drawn]  # (sample, width)
    tops = np.full((len(drawn), k + 1), -np.inf, dtype=np.float32)  # the largest cosines, each query's own among them
    for start in range(0, len(matrix), BLOCK):
        block = queries @ matrix[start : start + BLOCK].T
        tops = np.partition(np.concatenate([tops, block], axis=1), -k - 1, axis=1)[:, -k - 1 :]
    hits = 0
    for position, query, top in zip(drawn.tolist(), queries, tops, strict=True):
        near, values = nearest(len(matrix), lambda *asked: cosines(matrix, *asked), query, k + 1, store=store)
        hits += min(k, int(np.sum(values[near != position] >= top.min() - 1e-6)))
    return hits / (len(drawn) * k), len(drawn)


# ---------------------------------------------------------------------------------------------------------------------
# The store of an index, by its folder


def check(config: IndexConfig, base: Path) -> None:
    """Before any stage runs: UnusableIndexError where the store cannot be built; only the stage knows its width."""
    check_store(config.store, 1)


def check_store(store: str, width: int) -> None:
    """Raise UnusableIndexError that names what is missing where a store of vectors of this width cannot be built."""
    if store == USEARCH:
        import usearch.index  # noqa: F401 - for the error that names the extra
    elif store != EXACT:
        check_server(store, width)


def build_store(
    store: str, folder: Path, matrix: np.ndarray, key: str
) -> tuple[VectorStore, StoreRecord] | tuple[None, None]:
    """Build a store of these vectors, by position, measure its recall and record both; nothing for "exact".

    `key` is a digest of the index's content. Raises UnusableIndexError when the store finds less than 0.9 of what an
    exact search finds.
    """
    if store == EXACT:
        return None, None
    if store == USEARCH:
        built = UsearchStore.build(folder, matrix)
    else:
        built = PgvectorStore.build(store, key, matrix)
    recall, sample = measured_recall(matrix, built)
    if recall < LEAST_RECALL:
        built.close()
        raise UnusableIndexError(f"the store {store} finds {recall:.3f} of the nearest chunks: set store = 'exact'")
    record = StoreRecord(store, key, len(matrix), recall, sample)
    write_json(folder / STORE, record)
    return built, record


def open_store(folder: Path, size: int, width: int) -> VectorStore | None:
    """The store of an index of `size` vectors, None where it has none; UnusableIndexError when it is gone."""
    path = folder / STORE
    if not path.is_file():
        return None
    try:
        record = from_mapping(StoreRecord, read_json(path), [str(path)])
    except ValueError as error:
        raise UnusableIndexError(f"{error}; rebuild the index") from error
    if record.vectors != size:
        raise UnusableIndexError(f"{path} is of a store of another index; rebuild the index")
    if record.store == USEARCH:
        return UsearchStore.open(folder, size, width)
    return PgvectorStore.open(record.store, record.key)


def delete_store(folder: Path) -> None:
    for name in (STORE, GRAPH):
        (folder / name).unlink(missing_ok=True)
