"""Run programs that a model wrote, each in a process of its own with limits, and say of each whether it ran to its end.

A fresh interpreter without site packages runs a program in an empty temporary folder, with a clean environment, a limit
on time, memory and file size, and an audit hook (PEP 578) that refuses sockets, processes, foreign code, and files that
are written elsewhere. Its process group is killed afterwards. This contains accidents, not an attacker: a program may
read what the user may read, and code that is out to break Python's own hooks needs a virtual machine.

Run as a program, this module is that process: it reads a token and the limit of time from a line of stdin, and the
program from the rest.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from subprocess import DEVNULL, PIPE
from typing import Any, NoReturn

_HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.putenv", "os.unsetenv")
_REFUSED = ("os", "socket", "subprocess", "shutil", "ctypes", "mmap", "pty", "resource", "fcntl", "signal", "syslog")
SECONDS = 10.0  # by the clock
MOST_MEMORY, MOST_WRITTEN = 1 << 30, 1 << 20  # bytes of address space, which macOS does not limit; of a file
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def run_programs(programs: Sequence[str], seconds: float = SECONDS) -> list[str]:
    """Why each program did not run to its end, in order; "" where it did. Equal ones run once."""
    from concurrent.futures import ThreadPoolExecutor

    distinct = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = dict(zip(distinct, pool.map(lambda one: run_program(one, seconds), distinct), strict=True))
    return [problems[program] for program in programs]


def run_program(program: str, seconds: float = SECONDS) -> str:
    """Why the program did not run to its end; "" where it did. RuntimeError on a system without such limits."""
    if os.name != "posix":
        raise RuntimeError("code is run under Linux and macOS alone: this system has no limits for a process")
    token = os.urandom(8).hex()
    with tempfile.TemporaryDirectory(prefix="program-") as folder:
        sent = f"{token} {seconds}\n{program}"
        command = [sys.executable, "-s", "-S", "-P", "-B", __file__]
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "TMPDIR": folder, "HOME": folder}
        with subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=folder, env=environment, start_new_session=True
        ) as process:
            try:
                answer, _ = process.communicate(sent.encode("utf-8", "surrogatepass"), timeout=seconds)
            except subprocess.TimeoutExpired:
                return f"took more than {seconds:g} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    said, _, problem = answer.decode("utf-8", "replace").partition(" ")
    return problem if said == token else f"ended early, with code {process.returncode}"


def _refuse(event: str, arguments: tuple[Any, ...], folder: str) -> None:
    """PermissionError for an event of the interpreter that a program has no need of."""
    if event == "open":
        path, _, flags = arguments
        inside = isinstance(path, (str, bytes)) and os.path.realpath(os.fsdecode(path)).startswith(folder + os.sep)
        if not (flags or 0) & _WRITES or inside:
            return
    elif event.partition(".")[0] not in _REFUSED or event in _HARMLESS:
        return
    raise PermissionError(f"{event}{arguments[:1]} is refused to a program that is evaluated")


def _main() -> NoReturn:
    import resource

    (token, seconds), program = sys.stdin.buffer.readline().decode().split(), sys.stdin.buffer.read()
    report, folder = os.dup(1), os.path.realpath(".")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for name, most in (("CPU", int(float(seconds)) + 1), ("AS", MOST_MEMORY), ("FSIZE", MOST_WRITTEN), ("CORE", 0)):
        with contextlib.suppress(ValueError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    sys.addaudithook(lambda event, arguments: _refuse(event, arguments, folder))
    problem = ""
    try:
        exec(compile(program.decode("utf-8", "surrogatepass"), "program", "exec"), {"__name__": "__main__"})
    except BaseException as error:  # SystemExit among them: the end was not reached
        problem = f"{type(error).__name__}: {error}"[:300]
    os.write(report, f"{token} {problem}".encode("utf-8", "replace"))
    os._exit(0)


if __name__ == "__main__":
    _main()
