"""Where logs are kept in the tests: a file, and a database of its own on a PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import fresh_database


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    with fresh_database(postgres_server) as address:
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
        with fresh_database(request.getfixturevalue("postgres_server")) as address:
            yield address
