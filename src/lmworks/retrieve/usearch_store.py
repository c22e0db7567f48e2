"""A store in a file next to the index: a graph over bfloat16 vectors, mapped into memory (`usearch`, an extra)."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmworks.retrieve.vector_store import BLOCK, EXPANSION, GRAPH, StoreError, Vectors

if TYPE_CHECKING:
    from usearch.index import Index as Graph

FIRST = 1_024  # vectors that one thread adds: those that are added at once do not see each other


class UsearchStore:
    """A graph; several threads may search it at once."""

    def __init__(self, graph: "Graph") -> None:
        self._graph = graph

    @classmethod
    def build(cls, folder: Path, vectors: Vectors) -> "UsearchStore":
        graph_type = import_usearch()
        graph = graph_type(ndim=vectors.matrix.shape[1], metric="ip", dtype="bf16")
        edges = [0, *range(min(FIRST, len(vectors)), len(vectors), BLOCK), len(vectors)]
        for start, end in itertools.pairwise(edges):
            positions = np.arange(start, end)
            graph.add(positions, vectors.matrix[vectors.rows[positions]], threads=1 if end <= FIRST else 0)
        graph.save(str(folder / f"{GRAPH}.part"))
        graph.reset()
        (folder / f"{GRAPH}.part").replace(folder / GRAPH)
        return cls.open(folder, vectors)

    @classmethod
    def open(cls, folder: Path, vectors: Vectors) -> "UsearchStore":
        graph_type = import_usearch()
        path, width = folder / GRAPH, vectors.matrix.shape[1]
        try:
            graph = graph_type.restore(str(path), view=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"cannot read {path} ({error}); rebuild the index") from error
        if graph is None or (len(graph), graph.ndim) != (len(vectors), width):
            raise StoreError(f"{path} does not hold {len(vectors)} vectors of width {width}; rebuild the index")
        graph.expansion_search = EXPANSION
        return cls(graph)

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self._graph.search(query.astype(np.float32), k).keys.astype(np.int64)

    def close(self) -> None:
        self._graph.reset()


def import_usearch() -> "type[Graph]":
    """The library's index."""
    from usearch.index import Index

    return Index
