"""What only a database server can do to the log: go away, hold something else, speak another version."""

import subprocess
import sys
import threading

import pytest
from events import event

from lmworks.monitor import Log, Reader, UnusableLogError

psycopg = pytest.importorskip("psycopg")
_WAIT = 20.0


def _terminate_others(address: str) -> int:
    """End every other connection to the database, as a restart of the server would."""
    with psycopg.connect(address, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        ).fetchall()
    return len(ended)


def test_lost_connections_are_made_again(postgres) -> None:
    with Log(postgres) as log:
        log.record(event(1)).result(_WAIT)
        assert log.reader.count() == 1
        assert _terminate_others(postgres) >= 2
        log.record(event(2)).result(_WAIT)
        assert log.reader.count() == 2
        assert _terminate_others(postgres) >= 2
        assert log.reader.count() == 2


def test_two_logs_make_and_write_one_database(postgres) -> None:
    failures = []

    def write(first: int) -> None:
        try:
            with Log(postgres) as log:
                for future in [log.record(event(number)) for number in range(first, first + 100)]:
                    future.result(_WAIT)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with Reader.open(postgres) as reader:
        assert sorted(row.id for row in reader.find(limit=1000)) == [f"{number:016x}" for number in range(150)]


def test_tables_of_another_program_are_left_alone(postgres) -> None:
    with pytest.raises(UnusableLogError):  # which has no log yet
        Reader.open(postgres)
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE SCHEMA lmworks")
        connection.execute("CREATE TABLE lmworks.interactions (mine TEXT)")
    for open_it in (Log, Reader.open):
        with pytest.raises(UnusableLogError, match="schema lmworks"):
            open_it(postgres)
    with psycopg.connect(postgres) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'lmworks'").fetchall()
    assert tables == [("interactions",)]


def test_a_newer_schema_is_refused(postgres) -> None:
    Log(postgres).close()
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE lmworks.log_version SET version = 4")
    for open_it in (Log, Reader.open):
        with pytest.raises(UnusableLogError, match="version 4 of the log's schema"):
            open_it(postgres)


def test_a_very_long_word_can_be_stored_and_found(postgres) -> None:
    word = "x" * 100_000  # more than an index of PostgreSQL can hold
    with Log(postgres) as log:
        log.record(event(1, response=f"before {word} after")).result(_WAIT)
        assert log.reader.count(word) == log.reader.count("before") == 1
        assert log.reader.count(f'"before {word}"') == 1


def test_addresses_that_lead_nowhere() -> None:
    with pytest.raises(UnusableLogError, match="cannot open the log in PostgreSQL") as caught:
        Log("postgresql://user:topsecret@127.0.0.1:9/nothing")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(UnusableLogError, match="not a PostgreSQL address") as caught:
        Log("postgresql://user:topsecret@127.0.0.1:9/nothing?nonsense=1")
    assert "topsecret" not in str(caught.value)


def test_heavy_libraries_are_not_imported_for_a_file(tmp_path) -> None:
    code = """
import sys
from lmworks.monitor.log import Log
with Log(sys.argv[1]) as log:
    log.reader.find("words seconds>1")
print([name for name in ("torch", "pyarrow", "psycopg", "numpy", "fastapi") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "log.sqlite")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
