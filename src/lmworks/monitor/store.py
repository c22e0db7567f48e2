"""Interface between the log and its database, and what both databases do alike.

The statements that they share are written once, here and in `log.py`, with `?` for parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

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
INSERT_FEEDBACK = (
    "INSERT INTO feedback (id, interaction, time, kind, value, record) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO NOTHING"
)
HAS_INTERACTION = "SELECT 1 FROM interactions WHERE id = ?"
# What is filtered stands in the row itself: the newest thumb and the number of notes.
SUMMARISE_FEEDBACK = (
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


class Store(ABC):
    """The writing side: used by one thread alone."""

    insertion, existence = INSERT_INTERACTION, HAS_INTERACTION

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """A cursor, or what has its methods, of a transaction that is committed when the block ends well."""

    @abstractmethod
    def purge(self) -> bool:
        """Clear what deleted rows left behind in the files; False when a reader is still in the way."""

    @abstractmethod
    def transient(self, error: Exception) -> bool:
        """Whether the same call may succeed a little later."""

    @abstractmethod
    def key(self) -> bytes:
        """The key of pseudonyms, kept next to the log where only its owner can read it; made when there is none."""

    @abstractmethod
    def close(self) -> None: ...

    def sql(self, statement: str) -> Any:
        """A statement with `?` for parameters, as the driver wants it."""
        return statement

    def values(self, row: EncodedInteraction) -> tuple[Any, ...]:
        """The parameters of `insertion`."""
        return row.values

    def append(self, rows: Sequence[EncodedInteraction]) -> None:
        """Add rows in one transaction; those whose id is there already are left as they are."""
        with self.transaction() as cursor:
            cursor.executemany(self.sql(self.insertion), [self.values(row) for row in rows])
            for row in rows:
                for feedback in row.feedback:
                    self._insert_feedback(cursor, feedback)

    def attach(self, feedback: Sequence[Feedback]) -> list[bool]:
        """Add feedback in one transaction; False for each whose interaction is not there."""
        with self.transaction() as cursor:
            known = []
            for one in feedback:
                known.append(cursor.execute(self.sql(self.existence), (one.interaction,)).fetchone() is not None)
                if known[-1]:
                    self._insert_feedback(cursor, one)
            return known

    def execute(self, statements: Sequence[Statement]) -> list[int]:
        """Run statements in one transaction; how many rows each of them added or changed."""
        with self.transaction() as cursor:
            return [cursor.execute(self.sql(sql), values).rowcount for sql, values in statements]

    def delete(self, before: float, limit: int) -> int:
        """Delete at most `limit` interactions older than a time, the oldest first, with their feedback, and behind the
        last of them what else there is of that time; how many."""
        with self.transaction() as cursor:
            deleted = cursor.execute(self.sql(DELETE_OLDEST), (before, limit)).rowcount
            for statement in DELETE_BESIDE if deleted < limit else ():
                cursor.execute(self.sql(statement), (before,))
            return deleted

    def _insert_feedback(self, cursor: Any, feedback: Feedback) -> None:
        cursor.execute(self.sql(INSERT_FEEDBACK), encode_feedback(feedback))
        cursor.execute(self.sql(SUMMARISE_FEEDBACK), (feedback.interaction,) * 3)


class Rows(Protocol):
    """The reading side: for any number of threads, unable to write."""

    dialect: Dialect

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def key(self) -> bytes:
        """The key of pseudonyms; empty when there is none, and so no pseudonym."""
        ...

    def close(self) -> None: ...


def is_postgres(location: Path | str) -> bool:
    return str(location).startswith(("postgresql://", "postgres://"))
