"""A store in PostgreSQL: a table of half-precision vectors with pgvector's graph over it (`postgres`, an extra).

A table is named by the content that it was built from and never changed, so a system that serves an older index
continues while the next one is built. It is dropped by hand when nothing serves it any more.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lmworks.retrieve.catalogue import UnusableIndexError
from lmworks.retrieve.config import EXPANSION

if TYPE_CHECKING:
    import psycopg

SCHEMA = "lmworks_vectors"
WIDEST = 4_000  # of a graph over half-precision vectors
ELEMENT_BYTES = 1_280  # of a chunk's edges while the graph is built, next to its vector
MOST_BUILD_MEMORY = 4 << 30  # a graph that does not fit is built many times slower


class PgvectorStore:
    """A table of one database; a lost connection is rebuilt once for each search."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self.table = f"{SCHEMA}.index_{key[:24]}"
        self._connection = _connect(address)

    @classmethod
    def build(cls, address: str, key: str, matrix: np.ndarray) -> "PgvectorStore":
        """All in one transaction; a table that is there already was built from the same content, and stays."""
        from pgvector import HalfVector

        width = matrix.shape[1]
        memory = min(MOST_BUILD_MEMORY, (64 << 20) + len(matrix) * (2 * width + ELEMENT_BYTES)) >> 10
        store = cls(address, key)
        with _named_errors(address), store._connection.transaction(), store._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
            if not store._exists():
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
                columns = f"position integer NOT NULL, vector halfvec({width}) NOT NULL"
                cursor.execute(f"CREATE TABLE {store.table} ({columns})".encode())
                with cursor.copy(f"COPY {store.table} FROM STDIN (FORMAT binary)".encode()) as copy:
                    copy.set_types(["integer", "halfvec"])
                    for position, vector in enumerate(matrix):
                        copy.write_row((position, HalfVector(vector)))
                cursor.execute(f"SET LOCAL maintenance_work_mem = '{memory}kB'".encode())
                cursor.execute(f"CREATE INDEX ON {store.table} USING hnsw (vector halfvec_ip_ops)".encode())
        return store

    @classmethod
    def open(cls, address: str, key: str) -> "PgvectorStore":
        store = cls(address, key)
        if not store._exists():
            store.close()
            raise UnusableIndexError(f"{address} no longer has the table {store.table}: rebuild the index")
        return store

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        import psycopg
        from pgvector import HalfVector

        statement = f"SELECT position FROM {self.table} ORDER BY vector <#> %s LIMIT %s".encode()
        with self._lock, _named_errors(self._address):
            try:
                rows = self._connection.execute(statement, (HalfVector(query), k)).fetchall()
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
                self._connection = _connect(self._address)  # the server was restarted since
                rows = self._connection.execute(statement, (HalfVector(query), k)).fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1)

    def close(self) -> None:
        self._connection.close()

    def _exists(self) -> bool:
        return self._connection.execute("SELECT to_regclass(%s)", (self.table,)).fetchone() != (None,)


def check_server(address: str, width: int) -> None:
    """Whether a store of this width can be built there; makes the extension where the server's user may."""
    if width > WIDEST:
        raise UnusableIndexError(f"pgvector takes vectors of at most {WIDEST} numbers, got {width}: store = 'usearch'")
    _connect(address).close()


def _connect(address: str) -> "psycopg.Connection":
    """A connection that knows pgvector's types; UnusableIndexError for a server that lacks pgvector."""
    import psycopg
    from pgvector.psycopg import register_vector

    with _named_errors(address):
        connection = psycopg.connect(address, autocommit=True, connect_timeout=10)
        try:
            version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            if not connection.execute(version).fetchone():
                try:
                    connection.execute("CREATE EXTENSION vector")
                except psycopg.Error as error:
                    raise UnusableIndexError(
                        f"{address} lacks the extension pgvector ({str(error).strip()}): install it on the server "
                        "(Debian: postgresql-17-pgvector) and run CREATE EXTENSION vector as its superuser"
                    ) from error
            row = connection.execute(version).fetchone()
            if row is None or tuple(map(int, row[0].split(".")[:2])) < (0, 8):
                raise UnusableIndexError(f"{address} has pgvector {row and row[0]}: update it to 0.8 or later")
            register_vector(connection)
            connection.execute(f"SET hnsw.ef_search = {EXPANSION}".encode())
            # Asked for more than that, it continues from where it stopped.
            connection.execute("SET hnsw.iterative_scan = relaxed_order")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def _named_errors(address: str) -> Iterator[None]:
    """Errors of the server and the driver, as errors of the store."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise UnusableIndexError(
            f"the store {address} cannot be used: {str(error).strip()}; start the server and give its password as "
            "PGPASSWORD or in ~/.pgpass, or rebuild the index with store = 'exact'"
        ) from error
