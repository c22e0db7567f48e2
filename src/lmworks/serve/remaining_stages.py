"""Stages that no answer needs, such as an evaluation: made by a process next to the server, and shown when they are."""

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Literal

from lmworks.workspace import Current

_NICENESS = 10  # the server comes first
_STOP_SECONDS = 20.0  # for a stage to leave everything as the next one finds it
State = Literal["waiting", "running", "made", "failed", "stopped"]


class RemainingStages:
    """The process that makes the stages `names`: `command`, with low priority and on one thread.

    `line` is what it said last. `announce` is told how it goes.
    """

    def __init__(self, command: Sequence[str], names: Sequence[str], announce: Callable[[str], None]) -> None:
        self.command = command
        self.names = ", ".join(names)
        self.state: State = "waiting"
        self.line = ""
        self._announce = announce
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()  # of starting and stopping

    def start(self, finished: Callable[[], None]) -> None:
        """Start the process; `finished` is called from a thread when it ended well."""
        with self._lock:
            if self.state != "waiting":
                return
            self.state = "running"
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
                start_new_session=True,  # a Ctrl-C reaches the server alone, which stops it
            )
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        self._announce(f"Making meanwhile: {self.names}; the page Evaluation shows it when it is there")
        threading.Thread(target=self._follow, args=(self._process, finished), name="remaining", daemon=True).start()

    def _follow(self, process: subprocess.Popen[str], finished: Callable[[], None]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self.line = line.strip() or self.line
        status = process.wait()
        if self.state == "stopped":
            return
        self.state = "failed" if status else "made"
        if status:
            command = shlex.join(["lmworks", *self.command[3:]])
            self._announce(f"Not made: {self.names}. {self.line}\nServing continues; to try again: {command}")
            return
        finished()
        self._announce(f"Made: {self.names}")

    def stop(self) -> None:
        """End the process as Ctrl-C ends a build: what it has done so far is kept for the next one."""
        with self._lock:
            running, self.state = self.state == "running", "stopped" if self.state != "made" else "made"
        if not running or self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._announce(f"Stopped: {self.names}; the same command resumes")


def unfinished_notice(current: Current | None, remaining: RemainingStages | None) -> tuple[str, str, str] | None:
    """Heading, text and tone of what the pages say while stages are missing; None when all are made."""
    if current is None or not current.unfinished:
        return None
    names = ", ".join(current.unfinished)
    if remaining is None:
        return f"Not made yet: {names}.", "The `lmworks up` or `build` that made the rest makes it.", "caution"
    if remaining.state == "made":
        return f"Made of documents that changed since: {names}.", "A new start serves them.", "caution"
    if remaining.state == "failed":
        return f"Not made: {names}.", remaining.line, "bad"
    return f"Still running: {names}.", remaining.line or "Answers do not wait for it.", "caution"
