"""The file of the log: kills, other processes, files of others, and what is left of what was deleted."""

import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest
from events import event, full_event

from kit.tables import for_each
from lmworks.monitor import Log, Reader, UnusableLogError
from lmworks.monitor.sqlite import SqliteStore
from lmworks.monitor.writer import Writer
from lmworks.records import Feedback, Message

_WAIT = 20.0

# Records for ever, in large transactions; an id is printed when its future resolves, at once.
_RECORD_FOREVER = """
import os, pathlib, sys
from concurrent.futures import wait
from lmworks.monitor.rows import encode
from lmworks.monitor.sqlite import SqliteStore
from lmworks.monitor.writer import Writer
from lmworks.records import Interaction, Message
def tell(future, key):
    future.result()
    os.write(1, f"{key}\\n".encode())
writer = Writer(SqliteStore(pathlib.Path(sys.argv[1])), capacity=1000)
number = int(sys.argv[2])
while True:
    keys = [f"{number + place:016x}" for place in range(200)]
    text = "".join(f" w{number}x{n}" for n in range(100))
    rows = [encode(Interaction(key, float(number), (Message("user", text),), "answer")) for key in keys]
    futures = [writer.record(row) for row in rows]
    for future, key in zip(futures, keys):
        future.add_done_callback(lambda future, key=key: tell(future, key))
    wait(futures)
    number += len(keys)
"""

_RECORD_SOME = """
import sys
from lmworks.monitor.log import Log
from lmworks.records import Interaction, Message
with Log(sys.argv[1]) as log:
    print("ready", flush=True)
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        log.record(Interaction(f"{number:016x}", 1.0, (Message("user", "q"),), "r")).result(30)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_was_acknowledged_survives_a_kill(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    draw = random.Random(0)
    acknowledged: list[str] = []
    for round_number in range(5):
        process = _start(_RECORD_FOREVER, path, round_number * 1_000_000)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(draw.randrange(1, 400))]
        process.send_signal(signal.SIGKILL)  # as soon as the last of them is told
        lines += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        acknowledged += [line for line in lines if len(line) == 16]  # the last line may be torn
        with Reader.open(path) as reader:
            there = [row.id for row in reader.find(limit=10**6)]
        assert len(there) == len(set(there))
        assert set(acknowledged) <= set(there)
    assert len(acknowledged) > 400
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")  # raises when it is not
    connection.close()


def test_two_processes_write_the_same_file(tmp_path) -> None:
    path = tmp_path / "new" / "log.sqlite"  # both make it, at the same time
    processes = [_start(_RECORD_SOME, path, first, first + 150) for first in (0, 100)]  # 50 ids are the same
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Reader.open(path) as reader:
        assert sorted(row.id for row in reader.find(limit=1000)) == [f"{number:016x}" for number in range(250)]


def test_another_process_that_closes_the_log_leaves_it_to_us(tmp_path) -> None:
    """The last connection removes the write-ahead log; it must know that it is not the last."""
    path = tmp_path / "log.sqlite"
    with Log(path) as log:
        Reader.open(path).close()
        log.record(event(1)).result(_WAIT)
        assert _start(_RECORD_SOME, path, 2, 3).communicate()[0] == "ready\n"
        assert path.with_name("log.sqlite-wal").exists()
        log.record(event(3)).result(_WAIT)
        count = "import sys; from lmworks.monitor.log import Reader; print(Reader.open(sys.argv[1]).count())"
        assert _start(count, path).communicate()[0] == "3\n"


@for_each("replaced", [False, True])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path, replaced) -> None:
    path = tmp_path / "log.sqlite"
    with Log(path) as log:
        log.record(event(1)).result(_WAIT)
        for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
            (tmp_path / name).unlink()
        if replaced:
            with Log(path) as other:
                other.record(event(2)).result(_WAIT)
        lost = "log.sqlite was removed or replaced while it was open; restart"
        with pytest.raises(UnusableLogError, match=lost):
            log.record(event(3)).result(_WAIT)
        with pytest.raises(UnusableLogError, match=lost):
            log.attach(Feedback(f"{1:016x}", 1.0, "note")).result(_WAIT)
        with pytest.raises(UnusableLogError, match=lost):
            log.prune(5000.0)
    if replaced:
        with Reader.open(path) as reader:
            assert [row.id for row in reader.find()] == [f"{2:016x}"]


def test_a_transaction_of_another_process_is_waited_for(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    writer = Writer(SqliteStore(path, busy_seconds=0.01), capacity=10)
    with Log(path) as log:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        future = writer.record(_row(1))
        assert not future.done()
        assert log.reader.count() == 0  # readers do not wait
        other.execute("COMMIT")
        other.close()
        future.result(_WAIT)
        assert log.reader.count() == 1
    writer.close()


def _row(number: int):
    from lmworks.monitor.rows import encode

    return encode(event(number))


# ---------------------------------------------------------------------------------------------------------------------
# Files that are not the log's


def test_a_file_of_another_program_is_refused_untouched(tmp_path) -> None:
    text, database = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("these are my notes")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE interactions (id TEXT)")
    connection.close()
    for path in (text, database):
        before = path.read_bytes()
        for open_it in (Log, Reader.open):
            with pytest.raises(UnusableLogError, match="is not an interaction log; give the path of another file"):
                open_it(path)
        assert path.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "other.sqlite"}


@for_each("version", [2, 4])
def test_another_schema_is_refused_untouched(tmp_path, version) -> None:
    path = tmp_path / "log.sqlite"
    Log(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    for open_it in (Log, Reader.open):
        with pytest.raises(UnusableLogError, match=rf"version {version} of the log's schema.*knows 3"):
            open_it(path)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_log_and_no_reader_makes_one(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    with pytest.raises(FileNotFoundError, match=r"log\.sqlite"):
        Reader.open(path)
    assert not list(tmp_path.iterdir())
    path.touch()  # left by a process that was killed before it wrote the schema
    with pytest.raises(FileNotFoundError, match=r"log\.sqlite"):
        Reader.open(path)
    with Log(path) as log:
        log.record(event(1)).result(_WAIT)


def test_places_that_cannot_be_a_log(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "log.sqlite", "mysql://localhost/log"):
        with pytest.raises(UnusableLogError, match=re.escape(str(place).partition("localhost")[0])):
            Log(place)


_OPEN = """
import os, sys
from pathlib import Path
import lmworks.monitor.sqlite
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.store import UnusableLogError
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
if sys.argv[2] == "read":
    print(Reader.open(Path(sys.argv[1])).count())
else:
    try:
        Log(Path(sys.argv[1]))
    except UnusableLogError as error:
        print(error)
"""


def test_a_place_that_may_only_be_read() -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders cannot be entered by other users
    try:
        path = folder / "log.sqlite"
        with Log(path) as log:
            log.record(event(1)).result(_WAIT)
        path.chmod(0o444)
        for name, mode in (("log.sqlite", 0o777), ("new.sqlite", 0o555)):
            folder.chmod(mode)
            told = _start(_OPEN, folder / name, "write").communicate()[0]
            assert f"cannot write the interaction log {folder / name}" in told
            assert "make the file and its folder writable" in told
        folder.chmod(0o777)
        assert _start(_OPEN, path, "read").communicate()[0] == "1\n"
    finally:
        folder.chmod(0o777)
        shutil.rmtree(folder)


# ---------------------------------------------------------------------------------------------------------------------
# What was deleted is gone


def _everything(path: Path) -> bytes:
    """All bytes of the log's files, and what its compressed payloads hold."""
    raw = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    connection = sqlite3.connect(path)
    payloads = [row[0] for row in connection.execute("SELECT payload FROM interactions")]
    connection.close()
    return raw.lower() + b"".join(zlib.decompress(payload) for payload in payloads).lower()


def test_deleted_rows_leave_nothing_in_the_file(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    words = [f"qvj{number}xylophone" for number in range(300)]
    with Log(path) as log:
        for number, word in enumerate(words):
            log.record(event(number, messages=(Message("user", word),), response=f"{word} " * 40))
        log.record(event(999, messages=(Message("user", "stays"),))).result(_WAIT)
        log.attach(Feedback(f"{5:016x}", 1.0, "note", None, "qvjnote")).result(_WAIT)
        compressed = log.reader._rows.read("SELECT payload FROM interactions WHERE id = ?", [f"{5:016x}"])[0][0]
        before = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert all(word.encode() in before for word in (words[5], words[299], "qvjnote"))
        assert compressed in before
        assert log.prune(1000.0 + 300) == 300
        after = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"xylophone" not in after  # of the table, of the index of words, of the write-ahead log
        assert b"qvj" not in after
        assert compressed[:24] not in after
        assert log.reader.count() == log.reader.count("stays") == 1


def test_deleting_waits_for_a_reader_that_still_sees_the_rows(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    writer = Writer(SqliteStore(path, busy_seconds=0.01), capacity=10)
    writer.record(_row(1)).result(_WAIT)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM interactions").fetchone()
    pruned = writer.prune(1001.5)
    writer.record(_row(2)).result(_WAIT)  # nobody else waits
    assert not pruned.done()
    other.execute("COMMIT")
    other.close()
    assert pruned.result(_WAIT) == 1
    writer.close()


def test_sqlite_without_the_option_to_remove_words(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("lmworks.monitor.sqlite._REMOVES_WORDS", False)  # as before SQLite 3.42
    path = tmp_path / "log.sqlite"
    with Log(path) as log:
        for number in range(20):
            log.record(event(number, response="qvjxylophone")).result(_WAIT)
        log.record(full_event(99)).result(_WAIT)
        assert log.prune(1e6) == 20
        assert b"qvjxylophone" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
