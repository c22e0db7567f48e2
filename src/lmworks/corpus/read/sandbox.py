"""The sandbox: reading and extracting in a process of its own, which may take too long, too much memory, or crash.

Parsers of archives, HTML, PDF and the like are code that meets whatever a file holds, verifiers meet whatever a model
writes. What hangs or dies costs its own record a reason, and never the run.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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
Mark = Callable[[int], None]  # tells where a stream is, and begins the seconds anew

_MAPPED = Path("/proc/self/statm")  # of Linux: the first number is the pages that are mapped
_NO_MEMORY = 77  # status of a process that ended for want of memory
_TOO_LONG = ("SIGALRM", "SIGPROF")


def memory_is_bounded() -> bool:
    """Whether this system can hold a process to its megabytes."""
    return _MAPPED.exists()


class Sandbox(AbstractContextManager["Sandbox"]):
    """Calls functions in one other process, which is started anew after each that did not come back.

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
        """What was marked last."""
        return self._place.value

    def call(self, function: Callable[[A], R], argument: A, seconds: float | None = None) -> R:
        """The answer of a function, which pickles like its argument and its answer; `seconds` instead of the config's.

        Raises UnusableError, as the function does, and where it took too long or too much memory or died of it; and
        what else the function raises, as an UnusableError too, since it was this argument that it could not stand.
        """
        seconds = seconds or self._config.seconds
        connection = self._started()
        try:
            connection.send((function, argument, seconds, False))
            good, result = connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._death(seconds) from None
        if not good:
            raise UnusableError(result)
        return result

    def stream(self, function: Callable[[A, Mark], Iterator[R]], argument: A) -> Iterator[R]:
        """What a generator function of the argument and of `mark` yields; it is at most one ahead.

        Raises UnusableError where the process died; `place` then says where. An error that the function raises is
        raised here.
        """
        seconds, connection = self._config.seconds, self._started()
        self._place.value = -1
        ended = False
        try:
            connection.send((function, argument, seconds, True))
            while True:
                good, value = connection.recv()
                if good is None:
                    break
                if not good:
                    ended = True
                    raise value
                yield value
                connection.send(None)
            ended = True
        except (EOFError, BrokenPipeError, ConnectionResetError):
            ended = True
            raise self._death(seconds) from None
        finally:
            if not ended:  # nobody wants the rest
                self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _started(self) -> Connection:
        if self._connection is None or not self.alive:
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            arguments = (theirs, self._config, self._what, self._clock, self._place)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            start_child(self._process)
            theirs.close()
            try:
                self._connection.recv()
            except EOFError:
                told = f"the process of the sandbox did not start ({self._end()})"
                fix = 'a script that needs one runs its work below `if __name__ == "__main__":`'
                raise RuntimeError(f"{told}: {fix}") from None
        return self._connection

    def _death(self, seconds: float) -> UnusableError:
        told = self._end()
        if told in _TOO_LONG:
            return UnusableError(f"{self._what} took longer than {seconds:g} s")
        if told == f"status {_NO_MEMORY}":
            return UnusableError(f"{self._what} needed more than {self._config.megabytes:,} MB of memory")
        return UnusableError(f"{self._what} crashed ({told})")

    def _end(self) -> str:
        """Forget the process; how it ended."""
        assert self._process is not None and self._connection is not None
        self._process.join()
        told = how_it_ended(self._process)
        self._connection.close()
        self._process = self._connection = None
        return told


# ---------------------------------------------------------------------------------------------------------------------
# In the other process


def _serve(connection: Connection, config: SandboxConfig, what: str, clock: float | None, place: Any) -> None:
    end_with_parent()
    _limit_memory(config.megabytes)
    connection.send(None)  # it has started
    while True:
        try:
            function, argument, seconds, streams = connection.recv()
        except EOFError:
            return
        try:
            if streams:
                _stream(connection, function, argument, seconds, place)
            else:
                _set_clock(seconds * (clock or 1.0), seconds if clock else 0.0)
                answer = _tried(function, argument, what)
                _set_clock()
                connection.send(answer)
        except MemoryError:
            os._exit(_NO_MEMORY)


def _set_clock(real: float = 0.0, processor: float = 0.0) -> None:
    """The system ends the process by it, which no parser can hold back."""
    signal.setitimer(signal.ITIMER_REAL, real)
    signal.setitimer(signal.ITIMER_PROF, processor)


def _stream(connection: Connection, function: Any, argument: Any, seconds: float, place: Any) -> None:
    """Sends (True, value) for each, then (None, None); (False, error) where it raised."""

    def mark(where: int) -> None:
        place.value = where
        if where < 0:
            _set_clock(seconds)

    values = function(argument, mark)
    waits = False
    try:
        for value in values:
            _set_clock()  # others take their time
            if waits:
                connection.recv()
            connection.send((True, value))
            waits = True
            _set_clock(seconds)
        last: tuple[bool | None, Any] = (None, None)
    except MemoryError:
        raise
    except (UnreachableError, ModuleNotFoundError) as error:
        last = (False, error)
    except Exception as error:  # perhaps one that does not pickle
        last = (False, RuntimeError(f"{type(error).__name__}: {error}"))
    _set_clock()
    if waits:
        connection.recv()
    connection.send(last)


def _tried(function: Callable[[Any], Any], argument: Any, what: str) -> tuple[bool, Any]:
    try:
        return True, function(argument)
    except UnusableError as error:
        return False, str(error)
    except MemoryError:
        raise
    except RecursionError:
        return False, "its parts are nested too deeply"
    except Exception as error:  # a function's own surprise at what it is given
        return False, f"{what} failed: {type(error).__name__}: {error}"[:300]


def _limit_memory(megabytes: int) -> None:
    """Address space, since no system bounds what is resident; so it counts from what the process has mapped now."""
    import resource

    if not memory_is_bounded():
        return
    mapped = int(_MAPPED.read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = mapped + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
