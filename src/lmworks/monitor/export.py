"""Interactions as a Parquet file: typed columns for numbers and lists, JSON for what is nested."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmworks.atomic_file import new_file
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
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    batches = _of_interactions(reader, filter) if content else _of_columns(reader, filter)
    schema = _schema(pyarrow, tuple(_VALUES) if content else _COLUMNS)
    count = 0
    with (
        new_file(Path(path)) as temporary,
        ParquetWriter(temporary, schema, compression="zstd") as file,
    ):
        for columns in batches:
            file.write_table(pyarrow.table(columns, schema=schema))
            count += len(columns["id"])
    return count


def _of_interactions(reader: Reader, filter: str) -> Iterator[dict[str, Any]]:  # noqa: A002
    for rows in in_batches(reader.interactions(filter), _ROWS):
        yield {name: [value(row) for row in rows] for name, value in _VALUES.items()}


def _of_columns(reader: Reader, filter: str) -> Iterator[dict[str, Any]]:  # noqa: A002
    import pyarrow

    for columns in reader.column_batches(_COLUMNS, filter, _ROWS):
        known = {name: pyarrow.array(columns[name], from_pandas=True) for name in ("confidence", "seconds")}
        thumbs = [value or None for value in columns["thumbs"]]
        yield {**columns, **known, "thumbs": thumbs, "time": [round(time * 1e6) for time in columns["time"]]}


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _schema(pa: Any, names: Sequence[str]) -> "pyarrow.Schema":
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
        "seconds": pa.float64(),
        "abstained": pa.bool_(),
        "thumbs": pa.string(),
        "notes": pa.int64(),
    }
    return pa.schema([(name, types[name]) for name in names])


def _text(name: str) -> Callable[[Interaction], str | None]:
    def value(interaction: Interaction) -> str | None:
        text = getattr(interaction, name)
        return None if text is None else _unicode(text)

    return value


def _nested(name: str) -> Callable[[Interaction], str]:
    return lambda interaction: json.dumps(to_mapping(getattr(interaction, name)))


def _plain(name: str) -> Callable[[Interaction], Any]:
    return lambda interaction: getattr(interaction, name)


def _unicode(text: str) -> str:
    """Lone surrogates cannot be encoded; they become "?"."""
    return text.encode("utf-8", "replace").decode()


def _thumbs(interaction: Interaction) -> str | None:
    thumbs = [feedback for feedback in interaction.feedback if feedback.kind == "thumbs"]
    return thumbs[-1].value if thumbs else None


_VALUES: dict[str, Callable[[Interaction], Any]] = {
    "time": lambda interaction: round(interaction.time * 1e6),
    **{name: _text(name) for name in _TEXTS},
    "question": lambda interaction: _unicode(question_of(interaction.messages)),
    **{name: _nested(name) for name in _NESTED},
    **{
        name: _plain(name)
        for name in (
            *("redacted", "prompt_ids", "token_ids", "token_log_probabilities", "query_embedding"),
            *("input_tokens", "output_tokens", "seed", "confidence", "abstained"),
        )
    },
    "seconds": lambda interaction: interaction.timings.get("total"),
    "thumbs": _thumbs,
    "notes": lambda interaction: sum(feedback.kind == "note" for feedback in interaction.feedback),
}
_COLUMNS = tuple(name for name in _VALUES if name in log_columns.NAMES and name not in ("question", "response"))
