"""The interaction log: `Log` records, `Reader` reads. What is recorded first passes the redaction policy."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmworks.monitor.columns import joined, selected, typed
from lmworks.monitor.config import LogConfig
from lmworks.monitor.event_tables import change, insertions, selection
from lmworks.monitor.filter import Condition, compile_conditions, parse
from lmworks.monitor.postgres import PostgresRows, PostgresStore
from lmworks.monitor.redaction import Redactor
from lmworks.monitor.rows import LISTED, ConversationRow, LogRow, decode, encode, list_row, storable
from lmworks.monitor.sqlite import SqliteRows, SqliteStore
from lmworks.monitor.store import Dialect, Rows, Store, UnusableLogError, is_postgres
from lmworks.monitor.writer import LogFullError as LogFullError
from lmworks.monitor.writer import Writer
from lmworks.records import Feedback, Interaction

if TYPE_CHECKING:
    import numpy as np

_DAY = 86400.0
_STORED = "id, query_embedding, payload"  # what an interaction is read from
_PAGE = 200  # interactions in memory at a time when all are read

_TURNS = """
SELECT count(*), (
    SELECT question FROM interactions WHERE conversation = ? AND conversation != '' ORDER BY time, id LIMIT 1
) FROM interactions WHERE conversation = ? AND conversation != ''
"""
_NEXT_TURN = """
SELECT id FROM interactions WHERE conversation = ? AND conversation != '' AND (time, id) {sign} (?, ?)
ORDER BY time {order}, id {order} LIMIT 1
"""


class Reader(AbstractContextManager["Reader"]):
    """Reads a log; thread-safe, unable to write. `Log.reader` is one; `Reader.open` needs no log that is open.

    Units, conversations and annotators are asked for by the names that clients gave: the policy, `redactor`, says what
    the log holds in their place.
    """

    def __init__(self, rows: Rows, redactor: Redactor) -> None:
        self._rows = rows
        self.redactor = redactor

    @property
    def dialect(self) -> Dialect:
        return self._rows.dialect

    @classmethod
    def open(cls, location: Path | str, config: LogConfig = LogConfig()) -> "Reader":  # noqa: B008
        """The reader of an existing log; FileNotFoundError when there is none, UnusableLogError."""
        rows = _open_rows(location)
        return cls(rows, Redactor.of(config, rows.key))

    def get(self, id: str) -> Interaction:  # noqa: A002
        """An interaction with its feedback, oldest first; KeyError when there is none of this id."""
        interactions = self._interactions("id = ?", [id], "")
        if not interactions:
            raise KeyError(id)
        return interactions[0]

    def find(self, filter: str = "", limit: int = 50, before: tuple[float, str] | None = None) -> list[LogRow]:  # noqa: A002
        """The newest rows that a filter lets through, newest first; `before` (time, id) of the last row continues
        there.

        Raises FilterError, a ValueError, for a filter that cannot be read.
        """
        where, values = self._where(parse(filter), before)
        sql = f"SELECT {LISTED} FROM interactions WHERE {where} ORDER BY time DESC, id DESC LIMIT ?"
        return [list_row(row) for row in self._rows.read(sql, [*values, limit])]

    def count(self, filter: str = "") -> int:  # noqa: A002
        """The number of interactions that a filter lets through; FilterError."""
        return self.rows("interactions", "count(*)", *self.compiled(filter))[0][0]

    def conversation(
        self,
        id: str,  # noqa: A002
        limit: int = 50,
        before: tuple[float, str] | None = None,
        operation: str = "",
    ) -> list[Interaction]:
        """The newest turns of a conversation, oldest first; none when it is unknown.

        `before` (time, id) of the first turn gives those ahead of it; `operation` leaves out all others.
        """
        name = storable(self.redactor.identifier(id))
        where, values = _and_before("conversation = ? AND conversation != ''", [name], before)
        if operation:
            where, values = f"{where} AND operation = ?", [*values, operation]
        newest = self._interactions(where, [*values, limit], "ORDER BY time DESC, id DESC LIMIT ?")
        return newest[::-1]

    def neighbours(self, interaction: Interaction) -> tuple[str | None, str | None]:
        """The ids of the turns directly before and after one in its conversation; None where there is none."""
        position = [storable(interaction.conversation), interaction.time, interaction.id]
        turns = (_NEXT_TURN.format(sign=sign, order=order) for sign, order in (("<", "DESC"), (">", "ASC")))
        before, after = (rows[0][0] if (rows := self._rows.read(sql, position)) else None for sql in turns)
        return before, after

    def conversations(self, limit: int = 30) -> list[ConversationRow]:
        """The conversations with the newest turns, newest first."""
        newest: dict[str, float] = {}
        before: tuple[float, str] | None = None
        while len(newest) < limit:
            where, values = _and_before("conversation != ''", [], before)
            sql = f"SELECT conversation, time, id FROM interactions WHERE {where} ORDER BY time DESC, id DESC LIMIT ?"
            page = self._rows.read(sql, [*values, _PAGE])
            for name, moment, _ in page:
                newest.setdefault(name, moment)
            if len(page) < _PAGE:
                break
            before = page[-1][1:]
        rows = []
        for name, moment in list(newest.items())[:limit]:
            turns, question = self._rows.read(_TURNS, [name, name])[0]
            rows.append(ConversationRow(name, moment, question or "", turns))
        return rows

    def interactions(self, filter: str = "") -> Iterator[Interaction]:  # noqa: A002
        """Every interaction that a filter lets through, newest first, a page of them in memory at a time; FilterError.

        What is recorded after the first one was read is not among them.
        """
        pages = self._pages(_STORED, parse(filter), _PAGE)
        return (interaction for rows in pages for interaction in self._decoded(rows))

    def columns(self, names: Sequence[str], filter: str = "") -> dict[str, "np.ndarray | list[Any]"]:  # noqa: A002
        """Columns of every interaction that a filter lets through, newest first, see `columns.py`; no payload is read.

        Raises FilterError, and ValueError for a column that does not exist.
        """
        batches = list(self.column_batches(names, filter))
        return {name: joined([batch[name] for batch in batches]) for name in names}

    def column_batches(
        self,
        names: Sequence[str],
        filter: str = "",  # noqa: A002
        size: int = 10_000,
    ) -> Iterator[dict[str, "np.ndarray | list[Any]"]]:
        """`columns`, at most `size` interactions at a time, for a log that is larger than the memory."""
        pages = self._pages(selected(names), parse(filter), size)
        return (typed(names, rows) for rows in pages)

    def _pages(self, columns: str, conditions: tuple[Condition, ...], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of these columns, newest first, `size` at a time; what is left at the end, perhaps none."""
        before: tuple[float, str] | None = None
        while True:
            where, values = self._where(conditions, before)
            sql = f"SELECT {columns}, time, id FROM interactions WHERE {where} ORDER BY time DESC, id DESC LIMIT ?"
            rows = self._rows.read(sql, [*values, size])
            yield rows
            if len(rows) < size:
                return
            before = rows[-1][-2:]

    def rows(
        self, table: str, columns: str = "*", where: str = "1 = 1", values: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Rows of a table of `event_tables.py`, or of interactions and feedback.

        `columns` and `where`, which may go on with GROUP BY, ORDER BY and LIMIT, are our own words of SQL, without a
        literal `?` or `%`; what a user wrote stands in `values`, for the `?`.
        """
        return self._rows.read(selection(table, columns, where), values)

    def sample(self, columns: str, start: float, end: float, most: int, filter: str = "") -> list[tuple[Any, ...]]:  # noqa: A002
        """Rows of interactions that are answers to users, of a time and of a filter: all, or about `most` of them.

        Drawn by a hash of their key, whose order they have: the same each time, and fewer of them the first of more.
        """
        condition, arguments = self.compiled(filter)
        hashed, values = "(key * 2654435761) & 4294967295", [start, end, *arguments]
        where = f"time >= ? AND time < ? AND operation NOT IN ('embeddings', 'evaluation') AND {condition}"
        ((count,),) = self.rows("interactions", "count(*)", where, values)
        share = int(min(1.0, most / max(count, 1)) * 2**32)
        return self.rows("interactions", columns, f"{where} AND {hashed} < ? ORDER BY {hashed}", [*values, share])

    def close(self) -> None:
        self._rows.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def compiled(self, filter: str) -> tuple[str, list[Any]]:  # noqa: A002
        """A filter as a condition over `interactions` and the values of its `?`; FilterError."""
        return self._where(parse(filter), None)

    def _where(self, conditions: tuple[Condition, ...], before: tuple[float, str] | None) -> tuple[str, list[Any]]:
        compiled = compile_conditions(conditions, self._rows.dialect, self.redactor.identifier)
        return _and_before(*compiled, before)

    def _interactions(self, where: str, values: list[Any], order: str) -> list[Interaction]:
        return self._decoded(self._rows.read(f"SELECT {_STORED} FROM interactions WHERE {where} {order}", values))

    def _decoded(self, rows: Sequence[tuple[Any, ...]]) -> list[Interaction]:
        """The interactions of rows that begin with the columns `_STORED`."""
        feedback = self._feedback([row[0] for row in rows])
        return [decode(embedding, payload, feedback.get(key, [])) for key, embedding, payload, *_ in rows]

    def _feedback(self, ids: list[str]) -> dict[str, list[str]]:
        """The records of the feedback on each interaction that has some, oldest first."""
        records: dict[str, list[str]] = {}
        for start in range(0, len(ids), _PAGE):
            some = ids[start : start + _PAGE]
            placeholders = ", ".join("?" * len(some))
            sql = f"SELECT interaction, record FROM feedback WHERE interaction IN ({placeholders}) ORDER BY time, key"
            for interaction, record in self._rows.read(sql, some):
                records.setdefault(interaction, []).append(record)
        return records


def _and_before(where: str, values: list[Any], before: tuple[float, str] | None) -> tuple[str, list[Any]]:
    """Restrict a condition to what is older than a row, by (time, id)."""
    return (f"{where} AND (time, id) < (?, ?)", [*values, *before]) if before else (where, values)


class Log(AbstractContextManager["Log"]):
    """A log that is open for recording: the store, the policy, and one thread that writes. All that is written passes
    the policy here.

    `location` is the path of an SQLite file (made when missing) or "postgresql://...". At most `capacity` events wait
    to be written. Raises UnusableLogError when the location cannot be used.
    """

    def __init__(self, location: Path | str, config: LogConfig = LogConfig(), capacity: int = 1024) -> None:  # noqa: B008
        self.location = location
        self.config = config
        store: Store = PostgresStore(str(location)) if is_postgres(location) else SqliteStore(_path(location))
        try:
            key = store.key() if config.redact or config.patterns else b""
            self._redactor = Redactor.of(config, lambda: key)
            self.reader = Reader(_open_rows(location), self._redactor)
        except BaseException:
            store.close()
            raise
        self._writer = Writer(store, capacity, config.retention_days * _DAY)

    @property
    def pending(self) -> int:
        """The number of events that are not written yet."""
        return self._writer.pending

    def record(self, interaction: Interaction) -> Future[int]:
        """Record one interaction, after redaction. The future resolves once it is committed, or carries the error.

        Recording the same id again changes nothing. Raises at once: LogFullError when too much waits, ValueError or
        TypeError for an interaction that cannot be stored, RuntimeError when the log is closed.
        """
        return self._writer.record(encode(self._redactor.interaction(interaction)))

    def attach(self, feedback: Feedback) -> Future[int]:
        """Record feedback on an interaction, after redaction; KeyError in the future when there is no such one."""
        return self._writer.attach(self._redactor.feedback(feedback))

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> Future[int]:
        """Add rows to a table of `event_tables.py`, after redaction; the future says how many were not there yet.

        Raises at once as `record` does; ValueError also for an unknown table or column.
        """
        return self._writer.execute(insertions(table, [self._redactor.row(row) for row in rows]))

    def update(self, table: str, changes: Mapping[str, Any], where: str, values: Sequence[Any] = ()) -> Future[int]:
        """Change columns of the rows for which a condition holds then; the future says how many those were.

        The changes pass redaction, the values of the condition do not. For `where` and `values` see `Reader.rows`;
        errors as of `append`.
        """
        return self._writer.execute((change(table, self._redactor.row(changes), where, values),))

    def prune(self, before: float) -> int:
        """Delete all interactions that began before a time, with their feedback, and outcomes and assignments of before
        it, but those of experiments that run; how many interactions they were.

        Returns when the files hold nothing of them any more. Recording continues meanwhile.
        """
        return self._writer.prune(before).result()

    def close(self) -> None:
        """Write what is pending, then end the thread and close the files. Closing again does nothing."""
        self.reader.close()  # first: the last connection that can write puts everything into one file
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_rows(location: Path | str) -> Rows:
    """The reading side of an existing log; FileNotFoundError when there is none."""
    return PostgresRows(str(location)) if is_postgres(location) else SqliteRows(_path(location))


def _path(location: Path | str) -> Path:
    if not str(location):
        raise UnusableLogError("the location of the log is empty; give the path of a file or postgresql://...")
    if "://" in str(location):
        scheme = str(location).partition("://")[0]
        raise UnusableLogError(f"{scheme}:// is not supported; give the path of a file or postgresql://...")
    return Path(location)
