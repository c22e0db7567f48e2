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

from lmworks.monitor.event_tables import EVENT_TABLES, Statement
from lmworks.monitor.filter import MAX_WORD, words_of
from lmworks.monitor.rows import EncodedInteraction
from lmworks.monitor.store import (
    INSERT_INTERACTION,
    SCHEMA_VERSION,
    TABLES,
    Dialect,
    Pool,
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


_INSERTION = INSERT_INTERACTION.replace(" (id,", " (words, id,", 1).replace("VALUES (", "VALUES (?, ", 1)


class PostgresStore:
    """One connection for the writer thread; the next call replaces a lost one."""

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

    def insertion(self, row: EncodedInteraction) -> Statement:
        return _INSERTION, (_words(row), *row.values)

    def execute(self, statements: Sequence[Statement]) -> list[int]:
        connection = self.connection()
        with connection.pipeline(), connection.transaction():
            cursors = [connection.execute(_sql(sql), values) for sql, values in statements]
        return [cursor.rowcount for cursor in cursors]

    def purge(self) -> bool:
        """Frees the deleted rows' space; when it is overwritten is up to the server."""
        self.connection().execute("VACUUM interactions, feedback")
        return True

    def transient(self, error: Exception) -> bool:
        return isinstance(error, self._psycopg.OperationalError)

    def key(self) -> bytes:
        """In a table of its own, so that all servers have the same one; nobody but who makes it may read it."""
        connection = self.connection()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if cursor.execute(_sql(_HAS_KEY)).fetchone() == (None,):
                cursor.execute("CREATE TABLE pseudonym_key (key BYTEA NOT NULL)")
                cursor.execute("INSERT INTO pseudonym_key VALUES (%s)", (secrets.token_bytes(32),))
            ((key,),) = cursor.execute(_sql(_KEY)).fetchall()
            return key

    def close(self) -> None:
        self._connection.close()

    def connection(self) -> "psycopg.Connection":
        if self._connection.closed:
            self._connection = connect(self._psycopg, self._dsn)
            self._connection.execute(f"SET search_path TO {SCHEMA}")
        return self._connection

    def _prepare(self) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (SCHEMA,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE SCHEMA {SCHEMA}")
            cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (SCHEMA,))
            if cursor.fetchone() == (0,):
                cursor.execute(f"SET LOCAL search_path TO {SCHEMA}")
                tables = re.sub("|".join(_TYPES), lambda match: _TYPES[match[0]], TABLES + _WORDS + EVENT_TABLES)
                cursor.execute(tables.encode())
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
            self._pool: Pool[psycopg.Connection] = Pool(self._connect)

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        while True:
            with self._pool.lend() as connection:
                try:
                    return connection.execute(_sql(sql), parameters).fetchall()
                except self._psycopg.OperationalError:
                    if not connection.closed:
                        raise  # else the server was restarted since: its old connections are of no use

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
    fields = ([word[:MAX_WORD] for word in words_of(row.value(name))] for name in ("question", "response"))
    return f" {' | '.join(' '.join(words) for words in fields)} "


def _sql(statement: str) -> bytes:
    """The shared statements as psycopg wants them; none of them holds a literal `?` or `%`."""
    return statement.replace("?", "%s").encode()
