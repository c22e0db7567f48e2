"""Columns of the log: values of many interactions, typed, straight from the table, without decoding one payload.

    table = reader.columns(["experiment", "arm", "confidence", "timings.prefill"], "since:7d")
    table["confidence"][np.array(table["arm"]) == "B"]

Experiments, drift and dashboards are functions of these. Names are those of `Interaction`; next to them are `seconds`
(all phases), `timings.PHASE`, `question`, `thumbs` and `notes`. Numbers are numpy arrays, NaN where there is none;
`query_embedding` is a list of float32 arrays, empty where there is none; texts are lists, as `rows.storable` leaves
them.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmworks.config import unknown

if TYPE_CHECKING:
    import numpy as np

_DTYPES = {
    **dict.fromkeys(("time", "confidence", "log_probability", "seconds"), "float64"),
    **dict.fromkeys(("input_tokens", "output_tokens", "notes"), "int64"),
    "abstained": "bool",
}
_TEXTS = (
    *("id", "operation", "route", "conversation", "model", "prompt", "index", "experiment", "unit", "arm"),
    *("finish_reason", "error", "thumbs", "question", "response"),
)
NAMES = (*_DTYPES, *_TEXTS, "redacted", "query_embedding")
_IN_TABLE = {"prompt": "prompt_hash", "index": "index_hash"}  # where the table's name is another


def selected(names: Sequence[str]) -> str:
    """The columns of the table that these are read from, for SELECT; ValueError names what is allowed."""
    if not names:
        raise ValueError(f"name a column at least: {', '.join((*NAMES, 'timings.PHASE'))}")
    for name in names:
        if name not in NAMES and not re.fullmatch(r"timings\.\w+", name):
            raise ValueError(unknown("column", name, (*NAMES, "timings.PHASE")))
    return ", ".join("timings" if "." in name else _IN_TABLE.get(name, name) for name in names)


def typed(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, "np.ndarray | list[Any]"]:
    """The values of rows, in the order of `names`, by name."""
    return {name: _column(name, [row[index] for row in rows]) for index, name in enumerate(names)}


def joined(columns: Sequence["np.ndarray | list[Any]"]) -> "np.ndarray | list[Any]":
    """One column of the same column of several batches."""
    import numpy as np

    if isinstance(columns[0], list):
        return [value for column in columns for value in column]
    return np.concatenate(columns)


def _column(name: str, values: list[Any]) -> "np.ndarray | list[Any]":
    import numpy as np

    if name == "query_embedding":
        return [np.frombuffer(value, dtype="<f4") for value in values]
    if name == "redacted":
        return [tuple(filter(None, value.split(","))) for value in values]
    if name in _TEXTS:
        return values
    if "." in name:
        phase = name.partition(".")[2]
        values = [json.loads(value).get(phase) for value in values]
    return np.array(values, dtype=_DTYPES.get(name, "float64"))  # None becomes NaN
