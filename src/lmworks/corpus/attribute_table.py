"""Annotations on disk: of each shard of documents a Parquet file, a row for each document in its order.

A measure is a column of numbers, null where it does not apply to a document, and a label one of words. Edits of repair
lead from the text as it was extracted to the text that was measured; marks are places in that one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.corpus.attribute_columns import AnnotationFile, Columns, Hashes, Ranges
from lmworks.corpus.attributes import Attributes, Kind, TaggedSpan
from lmworks.corpus.documents import in_order
from lmworks.records import Edit

ANNOTATIONS = "annotations"  # the folder
EVALUATION_ITEMS = "evaluation_items"  # in the metrics: how many of those that were looked for have each status
MEASURE, LABEL = "measure.", "label."  # how their columns' names begin
_BATCH = 256  # documents


@dataclass(frozen=True, slots=True)
class DocumentAttributes:
    """All that is known of one document. `characters` and `bytes` (of UTF-8) are those of the text after repair."""

    uri: str
    hash: str
    kind: Kind
    characters: int
    bytes: int
    annotations: Attributes
    edits: tuple[Edit, ...] = ()
    source: str = ""


def write_annotations(path: Path, rows: Iterable[DocumentAttributes]) -> None:
    """One file of a shard; columns in the order of their names. A few documents at a time are in memory as objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = iter(rows)
    tables = [_columns([])]
    while batch := list(islice(rows, _BATCH)):
        tables.append(_columns(batch))
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    fixed = len(tables[0].column_names)  # the others are in the order in which they came
    names = [*table.column_names[:fixed], *sorted(table.column_names[fixed:], key=_order)]
    pq.write_table(table.select(names), path, compression="zstd")


def _order(name: str) -> tuple[bool, str]:
    return name.startswith(LABEL), name


def _columns(rows: Sequence[DocumentAttributes]) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "uri": pa.array([row.uri for row in rows], pa.string()),
        "hash": pa.array([row.hash for row in rows], pa.string()),
        "source": pa.array([row.source for row in rows], pa.string()),
        "kind": pa.array([row.kind for row in rows], pa.string()),
        "characters": pa.array([row.characters for row in rows], pa.int64()),
        "bytes": pa.array([row.bytes for row in rows], pa.int64()),
        "edits": pa.array([[_as_row(edit) for edit in row.edits] for row in rows], _edit_type()),
        "marks": pa.array([[_as_row(mark) for mark in row.annotations.marks] for row in rows], _mark_type()),
    }
    for name in sorted({name for row in rows for name in row.annotations.measures}):
        values = [row.annotations.measures.get(name) for row in rows]
        columns[MEASURE + name] = pa.array(values, pa.float64())
    for name in sorted({name for row in rows for name in row.annotations.labels}):
        columns[LABEL + name] = pa.array([row.annotations.labels.get(name) for row in rows], pa.string())
    return pa.table(columns)


def _as_row(found: Edit | TaggedSpan) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__slots__}


def _edit_type() -> Any:
    import pyarrow as pa

    numbers = [("start", pa.int64()), ("end", pa.int64())]
    return pa.list_(pa.struct([*numbers, ("replacement", pa.string()), ("rule", pa.string())]))


def _mark_type() -> Any:
    import pyarrow as pa

    return pa.list_(
        pa.struct([("rule", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])
    )


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """The annotations of a shard, a column each; n documents.

    measures  name → (n,) float64, NaN where there is none.
    labels    name → n words, None where there is none.
    """

    uris: Sequence[str]
    hashes: Sequence[str]
    kinds: Sequence[str]
    characters: np.ndarray
    bytes: np.ndarray
    measures: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    edits: Sequence[tuple[Edit, ...]] = ()
    marks: Sequence[tuple[TaggedSpan, ...]] = ()
    sources: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.uris)


def read_annotations(path: Path) -> AttributeTable:
    """What `write_annotations` wrote. Names, sources, kinds and sizes are in memory; all else is read when it is asked
    for, so that tables of a large corpus can be held together."""
    file = AnnotationFile.of(path)
    names = file.names
    measures = [name.removeprefix(MEASURE) for name in names if name.startswith(MEASURE)]
    labels = [name.removeprefix(LABEL) for name in names if name.startswith(LABEL)]
    return AttributeTable(
        uris=file.texts("uri"),
        hashes=Hashes(file),
        kinds=file.texts("kind"),
        characters=file.numbers("characters"),
        bytes=file.numbers("bytes"),
        measures=Columns(tuple(measures), partial(file.numbers, prefix=MEASURE)),
        labels=Columns(tuple(labels), partial(file.words, prefix=LABEL)),
        edits=Ranges(file, "edits", Edit),
        marks=Ranges(file, "marks", TaggedSpan),
        sources=file.texts("source"),
    )


def annotation_paths(folder: Path) -> Sequence[Path]:
    """The files of an artefact's folder, in the order of the shards that they belong to."""
    return in_order((folder / ANNOTATIONS).glob("[0-9]*.parquet"))
