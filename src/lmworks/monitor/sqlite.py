"""The log in one SQLite file: a connection that writes, and read-only ones for whoever asks.

In WAL mode readers never wait for the writer and the writer never waits for them; other processes may write the same
file, each transaction waits for its turn. A commit is in the WAL file when it returns, so a killed process loses
nothing of it; `synchronous = NORMAL` means that a power cut may lose the last commits, but never leaves a broken file.

No code of a process that has the log open may open the file by other means than SQLite: when a process closes a file,
POSIX drops all its locks on it, those of its other connections as well.
"""

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmworks.artefact import new_file
from lmworks.monitor.event_tables import EVENT_TABLES, Statement
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

APPLICATION_ID = 0x6C6D776B  # "lmwk", in the header of the file
# Since 3.42 FTS5 can remove a deleted row's words at once; before, only merging its whole index does.
_REMOVES_WORDS = sqlite3.sqlite_version_info >= (3, 42)

_WORDS = """
CREATE VIRTUAL TABLE words USING fts5 (
    question, response, content = 'interactions', content_rowid = 'key', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER words_of_new AFTER INSERT ON interactions BEGIN
    INSERT INTO words (rowid, question, response) VALUES (new.key, new.question, new.response);
END;
CREATE TRIGGER words_of_deleted BEFORE DELETE ON interactions BEGIN
    INSERT INTO words (words, rowid, question, response) VALUES ('delete', old.key, old.question, old.response);
END;
"""


class SqliteStore:
    """Made in the thread that opens the log, then used by its writer thread alone.

    `busy_seconds` is how long a statement waits for another process that is writing.
    """

    def __init__(self, path: Path, busy_seconds: float = 5.0) -> None:
        self.path = path
        self._busy = round(busy_seconds * 1000)
        self._file: tuple[int, int] | None = None  # known once the file is there
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise _cannot_write(path, error) from error
        try:
            self._prepare()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise _cannot_write(path, error) from error
            raise
        self._file = _file(path)

    def insertion(self, row: EncodedInteraction) -> Statement:
        return INSERT_INTERACTION, row.values

    def execute(self, statements: Sequence[Statement]) -> list[int]:
        with self.transaction() as connection:
            return [connection.execute(sql, values).rowcount for sql, values in statements]

    def purge(self) -> bool:
        """Deleted pages are overwritten when they are freed; what is left is their older copies in the WAL file."""
        if not _REMOVES_WORDS:
            self._connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        self._connection.execute("PRAGMA busy_timeout = 0")  # the writer asks again later rather than wait here
        try:
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {self._busy}")
        return not busy

    def transient(self, error: Exception) -> bool:
        return _is_busy(error)

    def key(self) -> bytes:
        path = key_path(self.path)
        with self.transaction():  # of two processes one makes it
            if not path.exists():
                with new_file(path) as file:
                    os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
                    file.write_bytes(secrets.token_bytes(32))
        return _read_key(self.path)

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute(f"PRAGMA busy_timeout = {self._busy}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        _is_log(self.path, connection)  # a file of others is refused before anything is written
        with self.transaction():
            # The schema comes before WAL mode, so that the first page of the file itself says whose it is.
            if not _is_log(self.path, connection):
                for statement in _statements(TABLES + _WORDS + EVENT_TABLES):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        _enter_wal(connection, self._busy / 1000)
        connection.execute("PRAGMA synchronous = NORMAL")
        if _REMOVES_WORDS:
            connection.execute("INSERT INTO words (words, rank) VALUES ('secure-delete', 1)")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        # SQLite continues writing to a file that has no name any more: nobody would find those rows again.
        if self._file is not None and self._file != _file(self.path):
            raise UnusableLogError(
                f"the interaction log {self.path} was removed or replaced while it was open; "
                "restart lmworks, which then writes to the file that has this name"
            )
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise


class SqliteRows:
    """The reading side of a log in an SQLite file: connections that cannot write."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise _none_yet(path)
        try:
            self._pool: Pool[sqlite3.Connection] = Pool(self._connect)
        except sqlite3.Error as error:
            raise UnusableLogError(f"cannot read the log {path}: {error}") from error

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._pool.lend() as connection:
            return connection.execute(sql, parameters).fetchall()

    def key(self) -> bytes:
        return _read_key(self.path) if key_path(self.path).exists() else b""

    def close(self) -> None:
        self._pool.close()

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute("PRAGMA query_only = ON")
            if not _is_log(self.path, connection):
                raise _none_yet(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def key_path(path: Path) -> Path:
    """The file next to a log that holds the key of its pseudonyms."""
    return path.with_name(f"{path.name}.key")


def _read_key(path: Path) -> bytes:
    key = key_path(path).read_bytes()
    if len(key) != 32:
        raise UnusableLogError(f"{key_path(path)} is no key of 32 bytes: restore it, or remove it to draw a new one")
    return key


def _file(path: Path) -> tuple[int, int] | None:
    """Which file has this name: device and inode. Asked of the folder, since the file must not be opened."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _none_yet(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"{path} holds no interaction log; `lmworks serve` and `lmworks ask` write one")


def _is_log(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether a database is a log; False for an empty one, which may become one, and else UnusableLogError."""
    foreign = f"{path} is not an interaction log; give the path of another file"
    try:
        # The tables first: another process may make them and the id meanwhile, both at once.
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = _pragma(connection, "application_id")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise UnusableLogError(foreign) from error
        raise
    if application == 0 and not tables:
        return False
    if application != APPLICATION_ID:
        raise UnusableLogError(foreign)
    refuse_other_schema(str(path), _pragma(connection, "user_version"))
    return True


def _enter_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Changing the mode needs the file alone, and SQLite does not wait for that by itself."""
    deadline = time.monotonic() + patience
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise sqlite3.OperationalError(f"the file system allows no write-ahead log (journal mode {mode})")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _is_busy(error: Exception) -> bool:
    codes = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error, sqlite3.OperationalError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in codes


def _cannot_write(path: Path, error: Exception) -> UnusableLogError:
    return UnusableLogError(
        f"cannot write the interaction log {path}: {error}; "
        "make the file and its folder writable, or give another path as the log's location"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
