"""What was found of duplicates, on disk: pairs of documents that were compared, crowds of which too many were alike to
compare all, places that repeat each other, and the repositories that files of code belong to.

Documents are told by their places in the corpus, counted over all shards of all inputs in their order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

PAIRS, CROWDS, PLACES, REPOSITORIES = (f"{name}.parquet" for name in ("pairs", "crowds", "places", "repositories"))
CORPUS = "corpus.json"  # which documents the places are of

_SHAPE = ("threshold", "words", "compatibility")  # of crowds, in the metadata of their file
_LOOKED_FOR = b"looked_for"
_SETTINGS = {"paragraphs": "paragraphs=true", "passages": "passages=200"}  # that have a method looked for


@dataclass(frozen=True, slots=True)
class Looked:
    """A shard of the corpus, as it was when duplicates were looked for: its name, which tells its content and its
    place among the others, how many documents it has, and their characters after repair."""

    shard: str
    documents: int
    characters: int


Method = Literal["exact", "near", "paragraphs", "passages", "repositories"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """n pairs of documents, (n,) int64 each, the lower place first, and how alike they are, (n,) float64: the Jaccard
    similarity of their shingles, counted and not estimated. A similarity of 1 is an equivalence: what is true of one of
    two such documents is true of the other, so that of many with the same words not all pairs are listed."""

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True, slots=True)
class Crowds:
    """Documents of buckets too large for all their pairs: whoever decides compares those that are left with the ones
    that stay.

    members        (n,) int64 each: documents that may be alike.
    threshold      The least similarity that pairs were looked for with.
    words          Of a shingle.
    compatibility  Whether characters that Unicode calls compatible are one.
    """

    members: Sequence[np.ndarray] = ()
    threshold: float = 0.8
    words: int = 5
    compatibility: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """n places of documents, in groups of those with the same content: (n,) int64 each. Offsets are code points of the
    text after repair."""

    group: np.ndarray
    document: np.ndarray
    start: np.ndarray
    end: np.ndarray


def write_corpus(path: Path, shards: Sequence[Looked]) -> None:
    """The shards in their order: `read_corpus` of data.clean compares them with its own."""
    path.write_text(json.dumps([[each.shard, each.documents, each.characters] for each in shards]) + "\n", "utf-8")


def read_corpus(path: Path) -> list[Looked]:
    return [Looked(*row) for row in json.loads(path.read_text("utf-8"))]


def write_pairs(path: Path, found: dict[Method, Pairs]) -> None:
    _write(path, found, {"first": "int64", "second": "int64", "similarity": "float64"})


def read_pairs(path: Path, method: Method) -> Pairs:
    """ValueError for a method that was not looked for."""
    return Pairs(*_read(path, method, ("first", "second", "similarity")))


def write_places(path: Path, found: dict[Method, Places]) -> None:
    _write(path, found, dict.fromkeys(("group", "document", "start", "end"), "int64"))


def read_places(path: Path, method: Method) -> Places:
    """ValueError for a method that was not looked for."""
    return Places(*_read(path, method, ("group", "document", "start", "end")))


def write_crowds(path: Path, crowds: Crowds) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = {name: json.dumps(getattr(crowds, name)) for name in _SHAPE}
    schema = pa.schema([("members", pa.list_(pa.int64()))], metadata=told)
    members = pa.array([each.tolist() for each in crowds.members], schema.field("members").type)
    pq.write_table(pa.table([members], schema=schema), path, compression="zstd")


def read_crowds(path: Path) -> Crowds:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    members = tuple(np.array(each, np.int64) for each in table.column("members").to_pylist())
    return Crowds(members, **{name: json.loads(table.schema.metadata[name.encode()]) for name in _SHAPE})


def write_repositories(path: Path, names: Sequence[str | None]) -> None:
    """Of each document of the corpus the repository that it is a file of; None for the others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array(names, pa.string()).dictionary_encode()
    pq.write_table(pa.table({"repository": column}), path, compression="zstd")


def read_repositories(path: Path) -> list[str | None]:
    import pyarrow.parquet as pq

    return pq.read_table(path).column("repository").to_pylist()


def _write(path: Path, found: dict[Method, Pairs] | dict[Method, Places], columns: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_of = [("method", pa.string()), *((name, pa.type_for_alias(kind)) for name, kind in columns.items())]
    schema = pa.schema(rows_of, metadata={_LOOKED_FOR: json.dumps(sorted(found))})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for method, rows in sorted(found.items()):
            arrays: list[Any] = [pa.array(getattr(rows, name), schema.field(name).type) for name in columns]
            names = pa.array([method] * len(arrays[0]), pa.string())
            writer.write_table(pa.table([names, *arrays], schema=schema))


def _read(path: Path, method: Method, columns: tuple[str, ...]) -> list[np.ndarray]:
    import pyarrow.parquet as pq

    if method not in json.loads(pq.read_schema(path).metadata[_LOOKED_FOR]):
        setting = _SETTINGS.get(method, method)
        raise ValueError(
            f"{method} were not looked for: set {setting} in data.duplicates (--set duplicates.{setting}, for a stage "
            "called duplicates), or leave the step out of the policy"
        )
    table = pq.read_table(path, columns=list(columns), filters=[("method", "=", method)])
    return [table.column(name).to_numpy() for name in columns]
