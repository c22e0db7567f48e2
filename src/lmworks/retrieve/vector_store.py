"""Nearest chunks by cosine: exact over the matrix of an index, or proposed by an approximate store derived from it.

A store is a hierarchical navigable small-world graph (Malkov & Yashunin, 2018, algorithms 1 to 5), in a file next to
the index (`usearch_store.py`) or in PostgreSQL (`pgvector_store.py`). It only proposes: the matrix stays the truth,
cosines are computed from it, and where a store cannot propose enough, the matrix is read instead.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lmworks.artefact import write_text
from lmworks.retrieve.catalogue import UnusableIndexError
from lmworks.retrieve.config import EXACT, USEARCH, IndexConfig

if TYPE_CHECKING:
    from lmworks.retrieve.index import Index

STORE = "store.json"  # which store an index has; an index without this file is searched exactly
GRAPH = "vectors.usearch"
EXACT_ROWS = 20_000  # so many rows are read whole in less time than a filter costs a graph
MOST_ASKED = 1_000  # that a store is asked for at once; beyond, the matrix is read
BLOCK = 65_536  # vectors that are handled at once
EXPANSION = 512  # candidates that a search of a graph keeps open: questions are farther from chunks than chunks are
SPARE = 2.0  # times more than should do are asked for: exact cosines order them again, and filters are uneven
RECALL_AT, SAMPLE = 10, 200
LEAST_RECALL = 0.9  # a store that finds less is not kept


class StoreError(UnusableIndexError):
    """A store that cannot be reached, or is none of this index; the message names the fix."""


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


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of an index by position: `matrix[rows[position]]`, rows of length 1."""

    matrix: np.ndarray  # (rows, width) float32
    rows: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.rows)

    def cosines(self, query: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """(positions,) float32; a few rows are gathered, many are read in the order of the file."""
        query = query.astype(np.float32)
        if positions is None:
            return (self.matrix @ query)[self.rows]
        if 4 * len(positions) > len(self):
            return (self.matrix @ query)[self.rows[positions]]
        return np.einsum("ij,j->i", self.matrix[self.rows[positions]], query)


def nearest(
    vectors: Vectors, query: np.ndarray, k: int, allowed: np.ndarray | None = None, store: VectorStore | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cosines of the `k` nearest, best first, equal ones in the order of positions.

    `allowed` are the positions that may be found, None is all: `k` of them are returned whenever as many exist. A store
    is asked for so many that `k` should pass; exact without a store, for few allowed ones, and where too few passed.
    """
    count = len(vectors) if allowed is None else len(allowed)
    k = min(k, count)
    if k < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    positions = allowed
    asked = math.ceil(SPARE * k * len(vectors) / count)
    if store is not None and asked <= MOST_ASKED and (allowed is None or count > EXACT_ROWS):
        proposed = np.sort(store.search(query, asked))
        if allowed is not None:  # both rise: each is looked up where it would stand
            proposed = proposed[allowed[np.searchsorted(allowed, proposed).clip(max=count - 1)] == proposed]
        if len(proposed) >= k:
            positions = proposed
    cosines = vectors.cosines(query, positions)
    least = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
    best = np.flatnonzero(cosines >= least)  # more than k where cosines are equal
    best = best[np.argsort(-cosines[best], kind="stable")][:k]
    return (best if positions is None else positions[best]), cosines[best]


def measured_recall(vectors: Vectors, store: VectorStore, sample: int = SAMPLE) -> tuple[float, int]:
    """Recall@10 against exact, and over how many vectors: the mean over a sample of the index's own, drawn by seed 0.

    Each is a query for its neighbours, itself left out. One as near as the exact tenth counts as found, so that equal
    vectors may stand in for each other.
    """
    drawn = np.random.default_rng(0).permutation(len(vectors))[:sample]
    k = min(RECALL_AT, len(vectors) - 1)
    if k < 1:
        return 1.0, 0
    queries = np.asarray(vectors.matrix[vectors.rows[drawn]])  # (sample, width)
    tops = np.full((len(drawn), k + 1), -np.inf, dtype=np.float32)  # the largest cosines, each query's own among them
    for start in range(0, len(vectors.matrix), BLOCK):
        block = queries @ vectors.matrix[start : start + BLOCK].T
        tops = np.partition(np.concatenate([tops, block], axis=1), -k - 1, axis=1)[:, -k - 1 :]
    found = 0
    for position, query, top in zip(drawn.tolist(), queries, tops, strict=True):
        near, cosines = nearest(vectors, query, k + 1, store=store)
        found += min(k, int(np.sum(cosines[near != position] >= top.min() - 1e-6)))
    return found / (len(drawn) * k), len(drawn)


# ---------------------------------------------------------------------------------------------------------------------
# The store of an index


def check(config: IndexConfig, base: Path) -> None:
    """Before any stage runs: StoreError where the store cannot be built; its width is known only to the stage."""
    check_store(config.store, 1)


def check_store(store: str, width: int) -> None:
    """Raise StoreError that names what is missing where a store of vectors of this width cannot be built."""
    if store == USEARCH:
        from lmworks.retrieve.usearch_store import import_usearch

        import_usearch()
    elif store != EXACT:
        from lmworks.retrieve.pgvector_store import check_server

        check_server(store, width)


def build_store(index: "Index", store: str) -> StoreRecord | None:
    """Build the store of an index, measure its recall and keep both; None for "exact", which needs none.

    Raises StoreError when the store finds less than 0.9 of what an exact search finds. The next `sync` that changes the
    index forgets its store: build it again.
    """
    forget_store(index)
    if store == EXACT:
        return None
    layout, key = index.layout(), content_key(index)
    vectors = Vectors(layout.matrix, layout.rows)
    if store == USEARCH:
        from lmworks.retrieve.usearch_store import UsearchStore

        built = UsearchStore.build(index.folder, vectors)
    else:
        from lmworks.retrieve.pgvector_store import PgvectorStore

        built = PgvectorStore.build(store, key, vectors)
    recall, sample = measured_recall(vectors, built)
    if recall < LEAST_RECALL:
        built.close()
        raise StoreError(f"the store {store} finds {recall:.3f} of the nearest chunks: set store = 'exact'")
    record = StoreRecord(store, key, len(vectors), recall, sample)
    write_text(index.folder / STORE, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    index.store = built
    return record


def open_store(index: "Index") -> VectorStore | None:
    """The store of an index, None where it has none; StoreError when it is gone or belongs to another content."""
    path = index.folder / STORE
    if not path.is_file():
        return None
    try:
        record = StoreRecord(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path} is no record of a store with its measured recall; rebuild the index") from error
    if record.key != content_key(index):
        raise StoreError(f"{path} is of a store of another index or encoder; rebuild the index")
    if record.store == USEARCH:
        from lmworks.retrieve.usearch_store import UsearchStore

        layout = index.layout()
        return UsearchStore.open(index.folder, Vectors(layout.matrix, layout.rows))
    from lmworks.retrieve.pgvector_store import PgvectorStore

    return PgvectorStore.open(record.store, record.key)


def forget_store(index: "Index") -> None:
    """Leave an index without a store, as it is before one is built and after its content changed."""
    if index.store is not None:
        index.store.close()
        index.store = None
    for name in (STORE, GRAPH):
        (index.folder / name).unlink(missing_ok=True)


def content_key(index: "Index") -> str:
    """SHA-256 of what vectors and positions follow from: encoder, chunking, documents by uri; not of its history."""
    known = (index.encoder_fingerprint, index.width, index.chunk_config, len(index))
    digest = hashlib.sha256(repr(known).encode())
    for (document,) in index.connection.execute("SELECT digest FROM documents ORDER BY uri"):
        digest.update(document.encode())
    return digest.hexdigest()
