"""What was found of duplicates, on disk: pairs of documents that were compared, and places that repeat each other.

Documents are told by their places in the corpus, counted over all shards of all inputs in their order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

PAIRS, PLACES = "pairs.parquet", "places.parquet"

Method = Literal["exact", "near", "paragraphs", "passages", "repositories"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """n pairs of documents, (n,) int64 each, the lower place first, and how alike they are, (n,) float64: the Jaccard
    similarity of their shingles, counted and not estimated."""

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True, slots=True)
class Places:
    """n places of documents, in groups of those with the same content: (n,) int64 each. Offsets are code points of the
    text after repair."""

    group: np.ndarray
    document: np.ndarray
    start: np.ndarray
    end: np.ndarray


def write_pairs(path: Path, found: dict[Method, Pairs]) -> None:
    _write(path, found, {"first": "int64", "second": "int64", "similarity": "float64"})


def read_pairs(path: Path, method: Method) -> Pairs:
    return Pairs(*_read(path, method, ("first", "second", "similarity")))


def write_places(path: Path, found: dict[Method, Places]) -> None:
    _write(path, found, dict.fromkeys(("group", "document", "start", "end"), "int64"))


def read_places(path: Path, method: Method) -> Places:
    return Places(*_read(path, method, ("group", "document", "start", "end")))


def _write(path: Path, found: dict[Method, Pairs] | dict[Method, Places], columns: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("method", pa.string()), *((name, pa.type_for_alias(kind)) for name, kind in columns.items())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for method, rows in sorted(found.items()):
            arrays = [pa.array(getattr(rows, name), schema.field(name).type) for name in columns]
            names = pa.array([method] * len(arrays[0]), pa.string())
            writer.write_table(pa.table([names, *arrays], schema=schema))


def _read(path: Path, method: Method, columns: tuple[str, ...]) -> list[np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=list(columns), filters=[("method", "=", method)])
    return [table.column(name).to_numpy() for name in columns]
