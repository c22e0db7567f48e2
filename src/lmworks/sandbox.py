"""The sandbox: functions in a process of their own, which may take too long, too much memory, or crash.

Parsers of archives, HTML, PDF and the like are code that meets whatever a file holds, verifiers meet whatever a model
writes, and a constraint of a client may take hours to compile. What hangs or dies costs its own record a reason, and
never the run. Without limits such a process is a worker (`corpus/work_parts.py`). The processes leave Ctrl-C to the one
that started them, and none outlives it, however it ends.
"""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType
from typing import Any, TypeVar

from lmworks.config import at_least, positive

A = TypeVar("A")
R = TypeVar("R")
Mark = Callable[[int, int], None]  # notes where a stream is, by two numbers, and restarts its time limit

_MAPPED = Path("/proc/self/statm")  # of Linux: the first number is the pages that are mapped
_NO_MEMORY = 77  # status of a process that ended for want of memory
_TOO_LONG = ("SIGALRM", "SIGPROF")
_STARTING = Lock()


class SandboxError(RuntimeError):
    """A call that did not come back; the message says why."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Bounds of one record that is read and extracted, and of the process that does it.

    seconds    Longest time of a record.
    megabytes  Most memory of the process, beyond what it has at its start: a library of tables alone takes some
               hundred. Linux only: macOS bounds the memory of no process.
    """

    seconds: float = 60.0
    megabytes: int = 2048

    def __post_init__(self) -> None:
        positive(seconds=self.seconds)
        at_least(512, megabytes=self.megabytes)


DEFAULT = SandboxConfig()


def memory_is_bounded() -> bool:
    """Whether this system can hold a process to its megabytes."""
    return _MAPPED.exists()


class Sandbox(AbstractContextManager["Sandbox"]):
    """Calls functions in one other process, which is restarted after each that did not come back.

    The process is started at the first call. Use it as a context manager, or `close` it.

    config  None for a worker: no limits, and it may start processes itself.
    what    names in errors what its calls are.
    clock   longest time by the clock, in multiples of the seconds, which are then the processor's: a busy machine does
            not prolong them. Left out, they are by the clock.
    """

    def __init__(
        self, config: SandboxConfig | None = DEFAULT, what: str = "reading it", clock: float | None = None
    ) -> None:
        self._config, self._what, self._clock = config, what, clock
        self._place = get_context("spawn").RawArray("q", 2)  # what the process marked last
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._starting, self._is_over = Lock(), False

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the next call finds a process."""
        return self._process is not None and self._process.is_alive()

    @property
    def place(self) -> tuple[int, int]:
        """The last mark of a stream; (-1, -1) before the first."""
        first, second = self._place
        return first, second

    def call(self, function: Callable[[A], R], argument: A, seconds: float | None = None) -> R:
        """The answer of a function, which pickles like its argument and its answer; `seconds` instead of the config's.

        SandboxError where it took too long or too much memory, died, or raised: it was this argument that it could not
        stand.
        """
        (answer,) = self.stream(_once, (function, argument, self._what), seconds)
        return answer

    def stream(
        self, function: Callable[[A, Mark], Iterator[R]], argument: A, seconds: float | None = None
    ) -> Iterator[R]:
        """The items that a generator function of the argument and of `mark` yields; it is at most one ahead.

        SandboxError where the process died, and `place` then says where; and what the function raises.
        """
        seconds = seconds or (self._config.seconds if self._config else None)
        connection = self._started()
        self._place[:] = (-1, -1)
        is_whole = False
        try:
            connection.send((function, argument, seconds))
            while (answer := connection.recv()) is not None:
                value, error = answer
                if is_whole := error is not None:
                    raise error
                yield value
                connection.send(None)
            is_whole = True
        except (EOFError, BrokenPipeError, ConnectionResetError):
            is_whole = True
            raise self._death(seconds) from None
        finally:
            if not is_whole:  # nobody wants the rest
                self.close()

    def close(self) -> None:
        """End the process; the next call starts another one."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def kill(self) -> None:
        """End the process for good, from another thread than the one that calls: its call raises SandboxError."""
        with self._starting:
            self._is_over = True
            if (process := self._process) is not None:
                process.kill()

    def _started(self) -> Connection:
        with self._starting:
            if self._is_over:
                raise SandboxError(f"{self._what} was ended")
            if self._connection is None or not self.alive:
                context = get_context("spawn")
                self._connection, far_end = context.Pipe()
                arguments = (far_end, self._config, self._clock, self._place)
                self._process = context.Process(target=_serve, args=arguments, daemon=self._config is not None)
                _start(self._process)
                far_end.close()
                try:
                    self._connection.recv()
                except EOFError:
                    raise RuntimeError(f"the process of the sandbox did not start ({self._end()})") from None
            return self._connection

    def _death(self, seconds: float | None) -> SandboxError:
        end = self._end()
        if end in _TOO_LONG:
            return SandboxError(f"{self._what} took longer than {seconds:g} s")
        if end == f"status {_NO_MEMORY}":
            bound = f" than {self._config.megabytes:,} MB of" if self._config else ""
            return SandboxError(f"{self._what} needed more{bound} memory")
        return SandboxError(f"{self._what} crashed ({end})")

    def _end(self) -> str:
        """Forget the process; the signal, or the status, with which it has ended."""
        assert self._process is not None and self._connection is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._connection.close()
        self._process = self._connection = None
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def _start(process: BaseProcess) -> None:
    """Start a process in which SIGINT is blocked from its first moment: a terminal sends that to all, and this process
    ends the others. It imports what it is given, not the script of its parent, which `multiprocessing` would run in it
    once more."""
    ensure_running()  # of a process of `multiprocessing` itself, which would undo the next line when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _STARTING:
            main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                process.start()
            finally:
                sys.modules["__main__"] = main
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------------------------------------------------------------
# In the other process


def _serve(connection: Connection, config: SandboxConfig | None, clock: float | None, place: Any) -> None:
    Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if config is not None and memory_is_bounded():
        # Address space, since no system bounds what is resident; so it counts from what the process has mapped now.
        import resource

        mapped = int(_MAPPED.read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = mapped + config.megabytes * 2**20
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
    connection.send(None)  # it has started
    while True:
        try:
            function, argument, seconds = connection.recv()
        except EOFError:
            return
        try:
            _answer(connection, function, argument, _Clock(seconds, clock), place)
        except MemoryError:
            os._exit(_NO_MEMORY)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even killed. Work in C that keeps Python's lock for
    long has to come back first."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)  # whatever other threads do; what is half done has a name that nobody reads


@dataclass(frozen=True, slots=True)
class _Clock:
    """By which the system ends this process: no parser can hold that back."""

    seconds: float | None  # None without a limit
    multiple: float | None  # by the clock, of the seconds of the processor

    def begin(self, times: int = 1) -> None:
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, times * self.seconds * (self.multiple or 1.0))
            if self.multiple:
                signal.setitimer(signal.ITIMER_PROF, times * self.seconds)

    def stop(self) -> None:
        self.begin(0)


def _answer(connection: Connection, function: Any, argument: Any, clock: _Clock, place: Any) -> None:
    """Sends (value, None) for each, and None at the end; (None, error) where it raised."""

    def mark(*where: int) -> None:
        place[:] = where
        clock.begin()

    def send(answer: tuple[Any, Exception | None] | None) -> None:
        nonlocal waits
        clock.stop()  # others take their time
        if waits:
            waits = False  # if this answer does not pickle, the error that is sent instead must not wait as well
            try:
                connection.recv()
            except EOFError:  # nobody wants the rest
                os._exit(0)
        connection.send(answer)
        waits = True

    waits, last = False, None
    clock.begin()
    try:
        for value in function(argument, mark):
            send((value, None))
            clock.begin()
    except MemoryError:
        raise
    except Exception as error:
        last = (None, _sendable(error))
    send(last)


def _sendable(error: Exception) -> Exception:
    """The error, with where it was raised, or one with its words: some can be sent and not be received."""
    error.add_note(f"In another process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _once(given: tuple[Callable[[A], R], A, str], _: Mark) -> Iterator[R]:
    function, argument, what = given
    try:
        yield function(argument)
    except MemoryError:
        raise
    except RecursionError:
        raise SandboxError("its parts are nested too deeply") from None
    except Exception as error:  # a function's own surprise at what it is given
        raise SandboxError(f"{what} failed: {type(error).__name__}: {error}"[:300]) from None
