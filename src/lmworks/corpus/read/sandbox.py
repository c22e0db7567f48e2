"""The sandbox: reading and extracting in a process of its own, which may take too long, too much memory, or crash.

Parsers of archives, HTML, PDF and the like are code that meets whatever a file holds, verifiers meet whatever a model
writes. What hangs or dies costs its own record a reason, and never the run.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from lmworks.artefact import UnreachableError
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.execution.child_processes import end_with_parent, how_it_ended, start_child
from lmworks.corpus.read.config import SandboxConfig

A = TypeVar("A")
R = TypeVar("R")
Mark = Callable[[int], None]  # records where a stream is, and restarts its time limit

_MAPPED = Path("/proc/self/statm")  # of Linux: the first number is the pages that are mapped
_NO_MEMORY = 77  # status of a process that ended for want of memory
_TOO_LONG = ("SIGALRM", "SIGPROF")


def memory_is_bounded() -> bool:
    """Whether this system can hold a process to its megabytes."""
    return _MAPPED.exists()


class Sandbox(AbstractContextManager["Sandbox"]):
    """Calls functions in one other process, which is restarted after each that did not come back.

    The process is started at the first call. Use it as a context manager, or `close` it.

    what   names in errors what its calls are.
    clock  longest time by the clock, in multiples of the seconds, which are then the processor's: a busy machine does
           not prolong them. Left out, they are by the clock.
    """

    def __init__(
        self, config: SandboxConfig | None = None, what: str = "reading it", clock: float | None = None
    ) -> None:
        self._config, self._what, self._clock = config or SandboxConfig(), what, clock
        self._place = get_context("spawn").RawValue("q")  # what the process marked last
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the next call finds a process."""
        return self._process is not None and self._process.is_alive()

    @property
    def place(self) -> int:
        """The last mark."""
        return self._place.value

    def call(self, function: Callable[[A], R], argument: A, seconds: float | None = None) -> R:
        """The answer of a function, which pickles like its argument and its answer; `seconds` instead of the config's.

        Raises UnusableError, as the function does, and where it took too long or too much memory or died of it; and
        what else the function raises, as an UnusableError too, since it was this argument that it could not stand.
        """
        (answer,) = self.stream(_once, (function, argument, self._what), seconds)
        return answer

    def stream(
        self, function: Callable[[A, Mark], Iterator[R]], argument: A, seconds: float | None = None
    ) -> Iterator[R]:
        """The items that a generator function of the argument and of `mark` yields; it is at most one ahead.

        Raises UnusableError where the process died, and `place` then says where; and what the function raises.
        """
        seconds = seconds or self._config.seconds
        connection = self._started()
        self._place.value = -1
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

    def _started(self) -> Connection:
        if self._connection is None or not self.alive:
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            arguments = (theirs, self._config, self._clock, self._place)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            start_child(self._process)
            theirs.close()
            try:
                self._connection.recv()
            except EOFError:
                raise RuntimeError(f"the process of the sandbox did not start ({self._end()})") from None
        return self._connection

    def _death(self, seconds: float) -> UnusableError:
        end = self._end()
        if end in _TOO_LONG:
            return UnusableError(f"{self._what} took longer than {seconds:g} s")
        if end == f"status {_NO_MEMORY}":
            return UnusableError(f"{self._what} needed more than {self._config.megabytes:,} MB of memory")
        return UnusableError(f"{self._what} crashed ({end})")

    def _end(self) -> str:
        """Forget the process; how it ended."""
        assert self._process is not None and self._connection is not None
        self._process.join()
        end = how_it_ended(self._process)
        self._connection.close()
        self._process = self._connection = None
        return end


# ---------------------------------------------------------------------------------------------------------------------
# In the other process


def _serve(connection: Connection, config: SandboxConfig, clock: float | None, place: Any) -> None:
    end_with_parent()
    _limit_memory(config.megabytes)
    connection.send(None)  # it has started
    while True:
        try:
            function, argument, seconds = connection.recv()
            _answer(connection, function, argument, _Clock(seconds, clock), place)
        except EOFError:
            return
        except MemoryError:
            os._exit(_NO_MEMORY)


@dataclass(frozen=True, slots=True)
class _Clock:
    """By which the system ends this process: no parser can hold that back."""

    seconds: float
    multiple: float | None  # by the clock, of the seconds of the processor

    def begin(self, times: int = 1) -> None:
        signal.setitimer(signal.ITIMER_REAL, times * self.seconds * (self.multiple or 1.0))
        if self.multiple:
            signal.setitimer(signal.ITIMER_PROF, times * self.seconds)

    def stop(self) -> None:
        self.begin(0)


def _answer(connection: Connection, function: Any, argument: Any, clock: _Clock, place: Any) -> None:
    """Sends (value, None) for each, and None at the end; (None, error) where it raised."""

    def mark(where: int) -> None:
        place.value = where
        if where < 0:
            clock.begin()

    def send(answer: tuple[Any, Exception | None] | None) -> None:
        nonlocal waits
        clock.stop()  # others take their time
        if waits:
            waits = False  # if this answer does not pickle, the error that is sent instead must not wait as well
            connection.recv()
        connection.send(answer)
        waits = True

    waits, last = False, None
    clock.begin()
    try:
        for value in function(argument, mark):
            send((value, None))
            clock.begin()
    except (MemoryError, EOFError):
        raise
    except (UnusableError, UnreachableError, ModuleNotFoundError) as error:
        last = (None, error)
    except Exception as error:  # perhaps one that does not pickle
        last = (None, RuntimeError(f"{type(error).__name__}: {error}"))
    send(last)


def _once(given: tuple[Callable[[A], R], A, str], _: Mark) -> Iterator[R]:
    function, argument, what = given
    try:
        yield function(argument)
    except (UnusableError, MemoryError):
        raise
    except RecursionError:
        raise UnusableError("its parts are nested too deeply") from None
    except Exception as error:  # a function's own surprise at what it is given
        raise UnusableError(f"{what} failed: {type(error).__name__}: {error}"[:300]) from None


def _limit_memory(megabytes: int) -> None:
    """Address space, since no system bounds what is resident; so it counts from what the process has mapped now."""
    import resource

    if not memory_is_bounded():
        return
    mapped = int(_MAPPED.read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = mapped + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
