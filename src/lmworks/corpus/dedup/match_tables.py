"""Duplicates on disk: pairs of similar documents, places that repeat each other, and the repositories that files of
code belong to; a file each, and none of what was not looked for.

Documents are known by their places in the corpus, counted over all shards of all inputs in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

CORPUS = "corpus.json"  # which documents the places are of
_SETTINGS = {"paragraphs": "paragraphs=true", "passages": "passages=200"}  # that have them looked for

Method = Literal["near", "paragraphs", "passages"]
T = TypeVar("T", "Pairs", "Places")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """n pairs of documents, (n,) int64 each, the lower place first, and how alike they are, (n,) float64: the Jaccard
    similarity of their shingles, counted and not estimated. Of many documents that are all alike not all pairs are
    listed, but enough of them to link all: a group is what pairs link."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """n places of documents, in groups of those with the same content: (n,) int64 each. Offsets are code points of the
    text after repair."""

    group: NDArray[np.int64]
    document: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def write_matches(folder: Path, method: Method, found: Pairs | Places) -> None:
    _write(folder, method, {field.name: getattr(found, field.name) for field in fields(found)})


def not_looked_for(method: str) -> ValueError:
    setting = _SETTINGS.get(method, method)
    return ValueError(
        f"{method} were not looked for: set {setting} in corpus.dedup (--set duplicates.{setting}, for a stage "
        "called duplicates), or leave the step out of the policy"
    )


def read_matches(kind: type[T], folder: Path, method: Method) -> T:
    """ValueError for what was not looked for."""
    if not (folder / f"{method}.parquet").is_file():
        raise not_looked_for(method)
    table = _read(folder, method)
    return kind(*(table.column(field.name).to_numpy() for field in fields(kind)))


def write_repositories(folder: Path, names: Sequence[str | None]) -> None:
    """The repository of each document of the corpus; None for what is no file of one."""
    _write(folder, "repositories", {"repository": names})


def read_repositories(folder: Path) -> list[str | None]:
    return _read(folder, "repositories").column("repository").to_pylist()


def _write(folder: Path, name: str, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(columns)), folder / f"{name}.parquet", compression="zstd")


def _read(folder: Path, name: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(folder / f"{name}.parquet")
