"""The command line without a process of its own: importing torch anew would take most of a test's time."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from lmworks.cli.main import main


def lmworks(*arguments: object, cwd: Path | str = ".") -> subprocess.CompletedProcess:
    """`lmworks ARGUMENTS` in this process: its exit status and what it printed."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["lmworks", *map(str, arguments)]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def run(*arguments: object, cwd: Path | str = ".") -> str:
    """What a command prints that can be carried out, on 160 columns."""
    with mock.patch.dict(os.environ, COLUMNS="160"):
        result = lmworks(*arguments, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(*arguments: object, cwd: Path | str = ".") -> str:
    """The message of a command that cannot be carried out: exit status 2, no traceback."""
    result = lmworks(*arguments, cwd=cwd)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr
