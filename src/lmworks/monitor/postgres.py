"""The log in PostgreSQL, for several servers that share one: the same tables in a schema of their own.

Words are cut by `filter.words_of` before they are stored, so that a search finds the same as in SQLite whatever the
locale of the database. Needs psycopg 3, which is imported when this is first used.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lmworks.monitor.connection_pool import Pool
from lmworks.monitor.event_tables import EVENT_TABLES
from lmworks.monitor.filter import MAX_WORD, words_of
from lmworks.monitor.rows import EncodedInteraction
from lmworks.monitor.store import (
    HAS_INTERACTION,
    INSERT_INTERACTION,
    SCHEMA_VERSION,
    TABLES,
    Dialect,
    Store,
    UnusableLogError,
    refuse_other_schema,
)

if TYPE_CHECKING:
    import psycopg

SCHEMA = "lmworks"
_LOCK = 0x6C6D776B  # of those that make the tables at the same time
_HAS_KEY, _KEY = f"SELECT to_regclass('{SCHEMA}.pseudonym_key')", "SELECT key FROM pseudonym_key"

_TYPES = {
    "INTEGER PRIMARY KEY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TEXT": 'TEXT COLLATE "C"',  # order and equality by code points, as in SQLite, whatever the database's locale
}
# `words`: ' words of the question | words of the response '
_WORDS = """
ALTER TABLE interactions ADD COLUMN words TEXT NOT NULL;
CREATE INDEX interactions_by_word ON interactions USING gin (string_to_array(words, ' '));
CREATE TABLE log_version (version INTEGER NOT NULL);
"""


class PostgresStore(Store):
    """One connection for the writer thread; the next call replaces a lost one."""

    insertion = INSERT_INTERACTION.replace(" (id,", " (words, id,", 1).replace("VALUES (", "VALUES (?, ", 1)
    # The lock keeps the row until the feedback is there, whoever deletes at the same time.
    existence = f"{HAS_INTERACTION} FOR UPDATE"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        import psycopg

        self._psycopg = psycopg
        with _opening(self._psycopg):
            self._connection = connect(self._psycopg, dsn)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def sql(self, statement: str) -> bytes:
        return _sql(statement)

    def values(self, row: EncodedInteraction) -> tuple[Any, ...]:
        return _words(row), *row.values

    def purge(self) -> bool:
        """Frees the deleted rows' space; when it is overwritten is up to the server."""
        with self.transaction(autocommit=True) as cursor:
            cursor.execute("VACUUM interactions, feedback")
        return True

    def transient(self, error: Exception) -> bool:
        return isinstance(error, self._psycopg.OperationalError)

    def key(self) -> bytes:
        """In a table of its own, so that all servers have the same one; nobody but who makes it may read it."""
        with self.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if cursor.execute(_sql(_HAS_KEY)).fetchone() == (None,):
                cursor.execute("CREATE TABLE pseudonym_key (key BYTEA NOT NULL)")
                cursor.execute("INSERT INTO pseudonym_key VALUES (%s)", (secrets.token_bytes(32),))
            ((key,),) = cursor.execute(_sql(_KEY)).fetchall()
            return key

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self, *, autocommit: bool = False) -> "Iterator[psycopg.Cursor]":
        if self._connection.closed:
            self._connection = connect(self._psycopg, self._dsn)
            self._connection.execute(f"SET search_path TO {SCHEMA}")
        if autocommit:
            with self._connection.cursor() as cursor:
                yield cursor
        else:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                yield cursor

    def _prepare(self) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE SCHEMA {SCHEMA}")
            cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (SCHEMA,))
            tables = cursor.fetchone()
            if tables == (0,):
                cursor.execute(f"SET LOCAL search_path TO {SCHEMA}")
                cursor.execute(_translated(TABLES + _WORDS + EVENT_TABLES))
                cursor.execute(f"INSERT INTO {SCHEMA}.log_version VALUES (%s)", (SCHEMA_VERSION,))
            else:
                _refuse_foreign(self._connection)
        self._connection.execute(f"SET search_path TO {SCHEMA}")


class PostgresRows:
    """The reading side of a log in PostgreSQL: connections that cannot write."""

    dialect: Dialect = "postgres"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        import psycopg

        self._psycopg = psycopg
        with _opening(self._psycopg):
            self._pool: Pool[psycopg.Connection] = Pool(self._connect, lambda connection: connection.closed)
            with self._pool.lend():  # a log that cannot be read is refused here
                pass

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._pool.lend() as connection:
            try:
                return connection.execute(_sql(sql), parameters).fetchall()
            except self._psycopg.OperationalError:
                if not connection.closed:
                    raise
        # The server was restarted since: its old connections are of no use.
        with self._pool.lend(fresh=True) as connection:
            return connection.execute(_sql(sql), parameters).fetchall()

    def key(self) -> bytes:
        return b"" if self.read(_HAS_KEY) == [(None,)] else self.read(_KEY)[0][0]

    def close(self) -> None:
        self._pool.close()

    def _connect(self) -> "psycopg.Connection":
        connection = connect(self._psycopg, self._dsn)
        try:
            _refuse_foreign(connection)
            connection.execute("SET default_transaction_read_only = on")
            connection.execute(f"SET search_path TO {SCHEMA}")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def _opening(driver: ModuleType) -> Iterator[None]:
    """A log that cannot be opened is an error of its user; later, a lost connection is made again."""
    try:
        yield
    except driver.Error as error:
        raise UnusableLogError(f"cannot open the log in PostgreSQL: {error}") from error


def connect(driver: ModuleType, dsn: str) -> "psycopg.Connection":
    try:
        return driver.connect(dsn, autocommit=True, connect_timeout=10)
    except driver.ProgrammingError:  # the DSN itself; its text may hold a password
        raise UnusableLogError(
            "the location of the log is not a PostgreSQL address such as postgresql://user@host:5432/database"
        ) from None


def _refuse_foreign(connection: "psycopg.Connection") -> None:
    """Raise UnusableLogError where there is no log, or one of another version."""
    if connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.log_version",)).fetchone() == (None,):
        raise UnusableLogError(
            f"the schema {SCHEMA} of this database holds no interaction log; give the address of another database"
        )
    version = max(row[0] for row in connection.execute(f"SELECT version FROM {SCHEMA}.log_version"))
    refuse_other_schema("this database", version)


def _words(row: EncodedInteraction) -> str:
    parts = ([word[:MAX_WORD] for word in words_of(row.value(name))] for name in ("question", "response"))
    return f" {' | '.join(' '.join(part) for part in parts)} "


def _sql(statement: str) -> bytes:
    """The shared statements as psycopg wants them; none of them holds a literal `?` or `%`."""
    return statement.replace("?", "%s").encode()


def _translated(tables: str) -> bytes:
    """Definitions of tables in the words of PostgreSQL."""
    return re.sub("|".join(_TYPES), lambda found: _TYPES[found[0]], tables).encode()
