"""Interface between the log and its database, and what both databases do alike.

The statements that they share are written once, here and in `log.py`, with `?` for parameters.
"""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from lmworks.monitor.event_tables import Statement
from lmworks.monitor.rows import COLUMNS, TYPES, EncodedInteraction, encode_feedback
from lmworks.records import Feedback

Dialect = Literal["sqlite", "postgres"]
SCHEMA_VERSION = 3

# The tables and their indices, in the words of SQLite; a UNIQUE id of feedback is the hash of its record.
TABLES = f"""
CREATE TABLE interactions (
    key INTEGER PRIMARY KEY, thumbs TEXT NOT NULL DEFAULT '', notes INTEGER NOT NULL DEFAULT 0,
    {", ".join(f"{name} {kind}" for name, kind in TYPES.items())}
);
CREATE INDEX interactions_by_time ON interactions (time, id);
CREATE INDEX interactions_by_conversation ON interactions (conversation, time) WHERE conversation != '';
CREATE INDEX interactions_with_thumbs ON interactions (thumbs, time) WHERE thumbs != '';
CREATE TABLE feedback (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    interaction TEXT NOT NULL REFERENCES interactions (id) ON DELETE CASCADE,
    time REAL NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX feedback_by_interaction ON feedback (interaction, time);
"""
# "ON CONFLICT (id)": what is written again, after an answer got lost, is there once.
INSERT_INTERACTION = (
    f"INSERT INTO interactions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)
_INSERT_FEEDBACK = (
    "INSERT INTO feedback (id, interaction, time, kind, value, record) SELECT ?, ?, ?, ?, ?, ? "
    "WHERE EXISTS (SELECT 1 FROM interactions WHERE id = ?) ON CONFLICT (id) DO NOTHING"
)
# What is filtered stands in the row itself: the newest thumb and the number of notes.
_SUMMARISE_FEEDBACK = (
    "UPDATE interactions SET "
    "thumbs = COALESCE((SELECT value FROM feedback WHERE interaction = ? AND kind = 'thumbs' "
    "ORDER BY time DESC, key DESC LIMIT 1), ''), "
    "notes = (SELECT count(*) FROM feedback WHERE interaction = ? AND kind = 'note') WHERE id = ?"
)
DELETE_OLDEST = (
    "DELETE FROM interactions WHERE key IN (SELECT key FROM interactions WHERE time < ? ORDER BY time LIMIT ?)"
)
# What goes with the interactions of its time. An experiment that runs keeps whom it assigned.
DELETE_BESIDE = (
    "DELETE FROM outcomes WHERE time < ?",
    "DELETE FROM assignments WHERE time < ? AND experiment NOT IN (SELECT e.experiment FROM experiment_events e "
    "WHERE e.kind IN ('started', 'ramped') AND NOT EXISTS "
    "(SELECT 1 FROM experiment_events later WHERE later.experiment = e.experiment AND later.key > e.key))",
)


class UnusableLogError(ValueError):
    """A log that cannot be used as asked; the message names the fix."""


def refuse_other_schema(log: str, version: int) -> None:
    """Raise UnusableLogError for a log that an earlier or later version of lmworks wrote."""
    if version != SCHEMA_VERSION:
        raise UnusableLogError(
            f"{log} has version {version} of the log's schema, this version of lmworks knows {SCHEMA_VERSION}: "
            f"{'upgrade lmworks' if version > SCHEMA_VERSION else 'read it with the lmworks that wrote it'}, "
            "or give the location of another log"
        )


def feedback_statements(feedback: Feedback) -> tuple[Statement, ...]:
    """Add feedback; the last statement changes no row where its interaction is not there."""
    interaction = feedback.interaction
    insertion = _INSERT_FEEDBACK, (*encode_feedback(feedback), interaction)
    return insertion, (_SUMMARISE_FEEDBACK, (interaction,) * 3)


class Store(Protocol):
    """The writing side: used by one thread alone."""

    def insertion(self, row: EncodedInteraction) -> Statement:
        """The statement that adds an interaction; one whose id is there already is left as it is."""
        ...

    def execute(self, statements: Sequence[Statement]) -> list[int]:
        """Run statements, with `?` for parameters, in one transaction; how many rows each of them added or changed."""
        ...

    def purge(self) -> bool:
        """Clear what deleted rows left behind in the files; False when a reader is still in the way."""
        ...

    def transient(self, error: Exception) -> bool:
        """Whether the same call may succeed a little later."""
        ...

    def key(self) -> bytes:
        """The key of pseudonyms, kept next to the log where only its owner can read it; made when there is none."""
        ...

    def close(self) -> None: ...


class Rows(Protocol):
    """The reading side: for any number of threads, unable to write."""

    dialect: Dialect

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def key(self) -> bytes:
        """The key of pseudonyms; empty when there is none, and so no pseudonym."""
        ...

    def close(self) -> None: ...


C = TypeVar("C")


class Pool(Generic[C]):
    """Connections for as many threads as read at a time, none used by two at once; made when none is free, and the
    first at once, so that what is wrong is said then."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect, self._closed = connect, False
        self._free: queue.LifoQueue[C] = queue.LifoQueue()
        self._free.put(connect())

    @contextmanager
    def lend(self) -> Iterator[C]:
        """A connection for the block; one that it leaves closed is not lent again. RuntimeError on a closed pool."""
        if self._closed:
            raise RuntimeError("the log is closed")
        try:
            connection = self._free.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            yield connection
        finally:
            if not getattr(connection, "closed", False):
                self._free.put(connection)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close every connection, those that are lent when they come back."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._free.get_nowait().close()  # type: ignore[attr-defined]


def is_postgres(location: Path | str) -> bool:
    return str(location).startswith(("postgresql://", "postgres://"))
