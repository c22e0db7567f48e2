"""Interactions as a Parquet file: typed columns for numbers and lists, JSON for what is nested."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmworks.artefact import new_file
from lmworks.config import to_mapping
from lmworks.monitor import columns as log_columns
from lmworks.monitor.log import Reader
from lmworks.records import Interaction, question_of

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

_ROWS = 1000  # in memory at a time: one row group of the file
_TEXTS = (
    *("id", "operation", "route", "conversation", "parent", "model", "prompt", "index", "experiment", "unit", "arm"),
    *("finish_reason", "error", "response", "rendered_prompt"),
)
_NESTED = ("messages", "tools", "parameters", "retrieved", "verdicts", "timings", "lineage", "feedback")


def to_parquet(reader: Reader, path: Path | str, filter: str = "", *, content: bool = True) -> int:  # noqa: A002
    """Write the interactions that a filter lets through, newest first; how many they were.

    Without `content` the file has no texts but names and numbers, which are read from the table's columns: for
    statistics over a large log it takes a fraction of the time and of the space.
    Raises FileExistsError when `path` exists (nothing is ever overwritten) and FilterError. The file appears when it is
    complete. Nested values are JSON texts; what is not known (confidence, seed, seconds, parent) is null.
    """
    from pyarrow.parquet import ParquetWriter

    schema, count = _schema(content), 0
    with (
        new_file(Path(path)) as temporary,
        ParquetWriter(temporary, schema, compression="zstd") as file,
    ):
        for table in _of_interactions(reader, filter, schema) if content else _of_columns(reader, filter, schema):
            file.write_table(table)
            count += len(table)
    return count


def _of_interactions(reader: Reader, filter: str, schema: "pyarrow.Schema") -> Iterator["pyarrow.Table"]:  # noqa: A002
    import pyarrow

    for batch in in_batches(reader.interactions(filter), _ROWS):
        yield pyarrow.Table.from_pylist([_row(interaction) for interaction in batch], schema)


def _of_columns(reader: Reader, filter: str, schema: "pyarrow.Schema") -> Iterator["pyarrow.Table"]:  # noqa: A002
    import pyarrow

    for columns in reader.column_batches(schema.names, filter, _ROWS):
        known = {name: pyarrow.array(columns[name], from_pandas=True) for name in ("confidence", "seconds")}
        thumbs = [value or None for value in columns["thumbs"]]
        times = [round(time * 1e6) for time in columns["time"]]
        yield pyarrow.table({**columns, **known, "thumbs": thumbs, "time": times}, schema)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _schema(content: bool) -> "pyarrow.Schema":
    """The columns and their types; without `content`, those that are read from columns of the log."""
    import pyarrow as pa

    types = {
        "time": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys((*_TEXTS, "question", *_NESTED), pa.string()),
        "redacted": pa.list_(pa.string()),
        "prompt_ids": pa.list_(pa.int32()),
        "token_ids": pa.list_(pa.int32()),
        "token_log_probabilities": pa.list_(pa.float64()),
        "query_embedding": pa.list_(pa.float32()),
        "input_tokens": pa.int64(),
        "output_tokens": pa.int64(),
        "seed": pa.uint64(),
        "confidence": pa.float64(),
        "abstained": pa.bool_(),
        "seconds": pa.float64(),
        "thumbs": pa.string(),
        "notes": pa.int64(),
    }
    without = {*types} - {*log_columns.NAMES} | {"question", "response"}
    return pa.schema([(name, kind) for name, kind in types.items() if content or name not in without])


def _row(interaction: Interaction) -> dict[str, Any]:
    thumbs = [feedback.value for feedback in interaction.feedback if feedback.kind == "thumbs"]
    row = {
        **{field.name: getattr(interaction, field.name) for field in fields(interaction)},
        **{name: json.dumps(to_mapping(getattr(interaction, name))) for name in _NESTED},
        "time": round(interaction.time * 1e6),
        "question": question_of(interaction.messages),
        "seconds": interaction.timings.get("total"),
        "thumbs": thumbs[-1] if thumbs else None,
        "notes": sum(feedback.kind == "note" for feedback in interaction.feedback),
    }
    # Lone surrogates cannot be encoded; they become "?".
    return row | {n: text.encode("utf-8", "replace").decode() for n, text in row.items() if isinstance(text, str)}
