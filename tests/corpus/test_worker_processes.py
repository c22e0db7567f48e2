"""Processes that die are replaced, and none of them outlives its parent or an interruption."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmworks.corpus.documents import Extracted
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out
from lmworks.sandbox import Sandbox, SandboxConfig
from process_groups import members, needs_proc, wait_until

TWO = ExecutionConfig(2)


def parts(folder: Path, count: int = 6) -> list[Part[int]]:
    return [Part(number, folder / "done" / str(number)) for number in range(count)]


def dying_once(given: int, path: Path) -> None:
    path.write_text("half")
    marker = path.parent.parent / f"tried-{given}"
    if given % 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(str(given))


def dying(given: int, path: Path) -> None:
    path.write_text("half")
    if given == 3:
        os._exit(7)


def failing(given: int, path: Path) -> None:
    path.write_text(str(given))
    if given == 3:
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "of three")


class OddError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def odd(given: int, path: Path) -> None:
    raise OddError(1, 2)


def test_whoever_dies_is_replaced_and_the_part_done_again(tmp_path: Path) -> None:
    carry_out(dying_once, parts(tmp_path), TWO)
    assert {path.name: path.read_text() for path in (tmp_path / "done").iterdir() if path.name[0] != "."} == {
        str(number): str(number) for number in range(6)
    }
    carry_out(dying_once, parts(tmp_path), TWO)
    assert len(list((tmp_path / "done").iterdir())) == 6  # what the dead left half done is gone


def test_a_part_at_which_all_die_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"done/3 .*status 7"):
        carry_out(dying, parts(tmp_path), TWO)
    assert not (tmp_path / "done" / "3").exists()


def test_an_error_comes_back_as_it_was_and_others_finish(tmp_path: Path) -> None:
    with pytest.raises(UnicodeDecodeError, match="of three") as caught:
        carry_out(failing, parts(tmp_path), TWO)
    assert any("failing" in note for note in caught.value.__notes__)
    assert {"0", "1", "2"} <= {path.name for path in (tmp_path / "done").iterdir()}
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):  # such an exception can be sent, but not received
        carry_out(odd, parts(tmp_path / "odd"), TWO)


def stuck(raw: bytes) -> Extracted:
    """Keeps Python's lock, as a regular expression does that backtracks."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    raise AssertionError


def slow(given: int, path: Path) -> None:
    (path.parent.parent / f"pid-{os.getpid()}").touch()
    path.write_text(str(given))
    time.sleep(0.1 if given < 2 else 600)


def in_sandbox(given: int, path: Path) -> None:
    (path.parent.parent / f"pid-{os.getpid()}").touch()
    with Sandbox(SandboxConfig(seconds=2)) as sandbox:
        sandbox.call(stuck, b"")


SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to it
sys.path[:0] = {tests!r}
from test_worker_processes import *
carry_out({work}, parts(Path(sys.argv[1])), TWO)
"""


def start(folder: Path, work: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=[str(Path(__file__).parents[level]) for level in (0, 1)], work=work))
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@needs_proc
def test_nobody_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Neither the workers nor the sandboxes that they started."""
    process = start(tmp_path, "in_sandbox")
    group = os.getpgid(process.pid)
    wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    wait_until(lambda: len(members(group)) >= 5)
    process.kill()
    process.communicate()
    wait_until(lambda: not members(group))


@needs_proc
def test_ctrl_c_ends_all_at_once_and_keeps_what_is_done(tmp_path: Path) -> None:
    process = start(tmp_path, "slow")
    group = os.getpgid(process.pid)
    wait_until(lambda: {"0", "1"} <= {path.name for path in tmp_path.glob("done/*")})
    os.killpg(group, signal.SIGINT)  # as a terminal sends it: to all of them
    _, told = process.communicate(timeout=60)  # the parts would take ten minutes
    assert process.returncode == -signal.SIGINT and told.count("Traceback") == 1, told
    wait_until(lambda: not members(group))
    assert {path.name for path in tmp_path.glob("done/[0-9]*")} == {"0", "1"}
    carry_out(failing, [part for part in parts(tmp_path) if part.given != 3], TWO)
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["0", "1", "2", "4", "5"]
