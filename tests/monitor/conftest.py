"""Where logs are kept in the tests: a file, and a database of its own on the PostgreSQL server that is named."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = "LMWORKS_TEST_POSTGRES"


@contextmanager
def fresh_database() -> Iterator[str]:
    """The address of an empty database, dropped afterwards."""
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"needs a PostgreSQL server: set {SERVER} to its address, postgresql://user@host:port/database")
    import psycopg

    name = f"lmworks_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def postgres() -> Iterator[str]:
    with fresh_database() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """An empty place for a log, once in each database."""
    return tmp_path / "log.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def module_location(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | Path]:
    """The same, shared by the tests of a module."""
    if request.param == "sqlite":
        yield tmp_path_factory.mktemp("log") / "log.sqlite"
    else:
        with fresh_database() as address:
            yield address
