"""Interactions as rows of a table: columns for what is filtered, listed and counted, a compressed payload for all.

The payload is the whole interaction and the only thing an interaction is read from; the columns repeat a part of it.
The query embedding (float32) and the feedback, which comes later, stand next to it.
"""

import dataclasses
import json
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from statistics import fmean
from typing import Any, Literal

from lmworks.artefact import hash_json
from lmworks.config import from_mapping, to_mapping
from lmworks.records import Feedback, Interaction, question_of

# The columns that a row is written with, in the order of the table. The large ones come last, so that a scan over the
# small ones does not read them.
TYPES = {
    "id": "TEXT NOT NULL UNIQUE",
    "time": "REAL NOT NULL",
    **dict.fromkeys(("operation", "route", "conversation", "model", "prompt_hash", "index_hash"), "TEXT NOT NULL"),
    **dict.fromkeys(("experiment", "unit", "arm", "finish_reason", "error", "redacted"), "TEXT NOT NULL"),
    "confidence": "REAL",
    "log_probability": "REAL",  # mean of the tokens'
    "abstained": "INTEGER NOT NULL",
    "seconds": "REAL",
    **dict.fromkeys(("input_tokens", "output_tokens"), "INTEGER NOT NULL"),
    "timings": "TEXT NOT NULL",  # seconds by phase, JSON
    **dict.fromkeys(("question", "response"), "TEXT NOT NULL"),
    "query_embedding": "BLOB NOT NULL",  # float32, little-endian
    "payload": "BLOB NOT NULL",  # the whole interaction: JSON, compressed by zlib
}
COLUMNS = tuple(TYPES)


@dataclass(frozen=True, slots=True)
class LogRow:
    """An interaction as a list shows it. `question` is the last message of a user; `notes` counts them.

    `seconds` is None when it was not measured, `thumbs` the newest one, None when there is none or it was taken back.
    """

    id: str
    time: float
    operation: str
    route: str
    question: str
    response: str
    confidence: float | None
    abstained: bool
    finish_reason: str
    error: str
    seconds: float | None
    input_tokens: int
    output_tokens: int
    conversation: str
    thumbs: Literal["up", "down"] | None
    notes: int


LISTED = ", ".join(field.name for field in dataclasses.fields(LogRow))  # the columns that it is read from


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation as a list shows it: `time` is that of its last turn, `question` its first one."""

    id: str
    time: float
    question: str
    turns: int


@dataclass(frozen=True, slots=True)
class EncodedInteraction:
    """`values` in the order of `COLUMNS`, and the feedback that the interaction came with."""

    values: tuple[Any, ...]
    feedback: tuple[Feedback, ...]

    def value(self, column: str) -> Any:
        return self.values[COLUMNS.index(column)]


def encode(interaction: Interaction) -> EncodedInteraction:
    """The row of an interaction. ValueError for an id that is not 1 to 64 letters, digits, "-" and "_".

    TypeError when one of its values is not one of JSON's types.
    """
    check_id(interaction.id)
    for feedback in interaction.feedback:
        if feedback.interaction != interaction.id:
            raise ValueError(f"feedback on {feedback.interaction!r} cannot come with the interaction {interaction.id}")
    finite = [value for value in interaction.token_log_probabilities if isfinite(value)]
    payload = _fields(interaction)
    del payload["query_embedding"], payload["feedback"]
    values = {
        "id": interaction.id,
        "time": float(interaction.time),
        **{name: storable(getattr(interaction, name)) for name in _SAME_NAME},
        "prompt_hash": storable(interaction.prompt),
        "index_hash": storable(interaction.index),
        "redacted": ",".join(interaction.redacted),
        "confidence": interaction.confidence,
        "log_probability": fmean(finite) if finite else None,
        "abstained": int(interaction.abstained),
        "seconds": interaction.timings.get("total"),
        "input_tokens": interaction.input_tokens,
        "output_tokens": interaction.output_tokens,
        "timings": json.dumps(dict(interaction.timings)),
        "question": storable(question_of(interaction.messages)),
        "response": storable(interaction.response),
        "query_embedding": struct.pack(f"<{len(interaction.query_embedding)}f", *interaction.query_embedding),
        "payload": zlib.compress(json.dumps(payload, default=_fields).encode("ascii"), level=3),
    }
    return EncodedInteraction(tuple(values[name] for name in COLUMNS), interaction.feedback)


_SAME_NAME = ("operation", "route", "conversation", "model", "experiment", "unit", "arm", "finish_reason", "error")


def decode(query_embedding: bytes, payload: bytes, feedback: Iterable[str]) -> Interaction:
    """The interaction of a row and its feedback's records; ConfigError for what this version does not know."""
    interaction = from_mapping(Interaction, json.loads(zlib.decompress(payload)))
    return replace(
        interaction,
        query_embedding=struct.unpack(f"<{len(query_embedding) // 4}f", query_embedding),
        feedback=tuple(from_mapping(Feedback, json.loads(record)) for record in feedback),
    )


def encode_feedback(feedback: Feedback) -> tuple[Any, ...]:
    """id, interaction, time, kind, value ("" for None), record: the same feedback twice has the same id."""
    record = to_mapping(feedback)
    return (
        hash_json(record)[:32],
        feedback.interaction,
        float(feedback.time),
        feedback.kind,
        feedback.value or "",
        json.dumps(record),  # ASCII: whatever the text holds, any database can store it
    )


def list_row(values: tuple[Any, ...]) -> LogRow:
    """From the columns `LISTED`."""
    row = LogRow(*values)
    return replace(row, abstained=bool(row.abstained), thumbs=row.thumbs or None)


def check_id(identifier: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", identifier):
        raise ValueError(f"an interaction's id needs 1 to 64 letters, digits, '-' and '_', got {identifier!r}")


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, one level deep, for `json`: much faster than `to_mapping` for long lists."""
    if isinstance(value, Mapping):
        return dict(value)
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{value!r} ({type(value).__name__}) cannot be logged: it is none of JSON's types")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def storable(text: str) -> str:
    """A text as both databases can hold it in a column: without NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
