"""A store in a file next to the index: a graph over bfloat16 vectors, mapped into memory (`usearch`, an extra)."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmworks.retrieve.catalogue import UnusableIndexError
from lmworks.retrieve.config import EXPANSION

if TYPE_CHECKING:
    from usearch.index import Index

GRAPH = "vectors.usearch"
BLOCK = 65_536  # vectors that are added at once
FIRST = 1_024  # vectors that one thread adds: those that are added at once do not see each other


class UsearchStore:
    """A graph; several threads may search it at once."""

    def __init__(self, graph: "Index") -> None:
        self._graph = graph

    @classmethod
    def build(cls, folder: Path, matrix: np.ndarray) -> "UsearchStore":
        from usearch.index import Index

        size, width = matrix.shape
        graph = Index(ndim=width, metric="ip", dtype="bf16")
        for start, end in itertools.pairwise([0, *range(min(FIRST, size), size, BLOCK), size]):
            graph.add(np.arange(start, end), matrix[start:end], threads=1 if end <= FIRST else 0)
        graph.save(str(folder / f"{GRAPH}.part"))
        graph.reset()
        (folder / f"{GRAPH}.part").replace(folder / GRAPH)
        return cls.open(folder, size, width)

    @classmethod
    def open(cls, folder: Path, size: int, width: int) -> "UsearchStore":
        from usearch.index import Index

        path = folder / GRAPH
        try:
            graph = Index.restore(str(path), view=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise UnusableIndexError(f"cannot read {path} ({error}); rebuild the index") from error
        if graph is None or (len(graph), graph.ndim) != (size, width):
            raise UnusableIndexError(f"{path} does not hold {size} vectors of width {width}; rebuild the index")
        graph.expansion_search = EXPANSION
        return cls(graph)

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self._graph.search(query.astype(np.float32), k).keys.astype(np.int64)

    def close(self) -> None:
        self._graph.reset()
