"""A PostgreSQL server for tests: the one that LMWORKS_TEST_POSTGRES names, or one of the installed programs."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = "LMWORKS_TEST_POSTGRES"
PACKAGES = "postgresql-17 and postgresql-17-pgvector"  # of Debian


def programs() -> Path | None:
    """The folder of initdb and pg_ctl: the newest version that has pgvector, else the newest."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = [(path.parent, path.parts[-3]) for path in [*debian] if path.parts[-3].isdigit()]
    if not found:
        path = shutil.which("initdb")
        return Path(path).parent if path else None
    control = "/usr/share/postgresql/{}/extension/vector.control"
    return max(found, key=lambda one: (Path(control.format(one[1])).exists(), int(one[1])))[0]


@contextmanager
def running_server() -> Iterator[str]:
    """The address of a database on a server, which is stopped afterwards where it was started here."""
    if address := os.environ.get(SERVER):
        yield address
        return
    folder_of_programs = programs()
    if folder_of_programs is None:
        pytest.skip(f"needs PostgreSQL: install {PACKAGES}, or set {SERVER} to the address of a database")
    # PostgreSQL refuses to run as root; its package brings a user of its own.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="lmworks-postgres-") as folder, socket.socket() as reserved:
        if prefix:
            shutil.chown(folder, "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*prefix, str(folder_of_programs / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "-U", "lmworks", "-A", "trust", "-E", "UTF8", "--no-sync")
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", settings, "start")
        try:
            yield f"postgresql://lmworks@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The address of an empty database, dropped afterwards."""
    import psycopg

    name = f"lmworks_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
