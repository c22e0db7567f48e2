"""Functions behind a wall: in a process of their own, which may take too long, too much memory, or crash.

Parsers of HTML, PDF and the like are C code that meets whatever a file holds, verifiers meet whatever a model writes.
One that hangs or dies costs its own record a reason, and never the run.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lmworks.corpus.documents import Extracted, Extractor, UnusableError
from lmworks.corpus.execution.child_processes import end_with_parent, how_it_ended, start_child

A = TypeVar("A")
R = TypeVar("R")
_MAPPED = Path("/proc/self/statm")  # of Linux: the first number is the pages that are mapped
_GRACE = 1.0  # seconds after which the system ends what its parent should have ended


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """Bounds of one call, such as the extraction of a file.

    seconds    Longest time.
    megabytes  Most memory of the process, beyond what it has at its start. Linux only: macOS bounds the
               memory of no process.
    """

    seconds: float = 60.0
    megabytes: int = 2048

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.megabytes < 64:
            raise ValueError("a guard needs seconds above 0 and at least 64 megabytes")


def memory_is_bounded() -> bool:
    """Whether this system can hold an extraction to its megabytes."""
    return _MAPPED.exists()


class Guard:
    """Calls functions in one other process, which is started anew after each that did not come back.

    The process is started at the first call. Use it as a context manager, or `close` it.

    what   names in errors what its calls are.
    clock  longest time by the clock, in multiples of the seconds, which are then the processor's: a busy machine does
           not prolong them. Left out, they are by the clock.
    """

    def __init__(
        self, config: GuardConfig | None = None, what: str = "its extraction", clock: float | None = None
    ) -> None:
        self._config, self._what, self._clock = config or GuardConfig(), what, clock
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the next call finds a process."""
        return self._process is not None and self._process.is_alive()

    def extract(self, extractor: Extractor, raw: bytes) -> Extracted:
        """The extractor's answer for these bytes; errors as of `call`."""
        return self.call(extractor, raw)

    def call(self, function: Callable[[A], R], argument: A, seconds: float | None = None) -> R:
        """The answer of a function, which pickles like its argument and its answer; `seconds` instead of the config's.

        Raises UnusableError, as the function does, and where it took too long or too much memory or died of it; and
        what else the function raises, as an UnusableError too, since it was this argument that it could not stand.
        """
        seconds = seconds or self._config.seconds
        clock = seconds * (self._clock or 1.0)
        too_long = f"{self._what} took longer than {seconds:g} s"
        connection = self._started()
        try:
            connection.send((function, argument, seconds, clock))
            if not connection.poll(clock):
                self.close()
                raise UnusableError(too_long)
            good, result = connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            told = self._end()
            raise UnusableError(
                too_long if told in ("SIGALRM", "SIGPROF") else f"{self._what} crashed ({told})"
            ) from None
        if not good:
            raise UnusableError(result)
        return result

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _started(self) -> Connection:
        if self._connection is None or not self.alive:
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._config, self._what, self._clock is not None), daemon=True
            )
            start_child(self._process)
            theirs.close()
        return self._connection

    def _end(self) -> str:
        """Forget the process; how it ended."""
        assert self._process is not None and self._connection is not None
        self._process.join()
        told = how_it_ended(self._process)
        self._connection.close()
        self._process = self._connection = None
        return told


def _serve(connection: Connection, config: GuardConfig, what: str, processor: bool) -> None:
    end_with_parent()
    _limit_memory(config.megabytes)
    while True:
        try:
            function, argument, seconds, clock = connection.recv()
        except EOFError:
            return
        # A parser that never gives Python's lock back would outlive a parent that was killed: the system's clock ends
        # it.
        signal.setitimer(signal.ITIMER_REAL, clock + _GRACE)
        signal.setitimer(signal.ITIMER_PROF, seconds if processor else 0.0)
        answer = _tried(function, argument, what)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(answer)


def _tried(function: Callable[[Any], Any], argument: Any, what: str) -> tuple[bool, Any]:
    try:
        return True, function(argument)
    except UnusableError as error:
        return False, str(error)
    except MemoryError:
        return False, f"{what} needed too much memory"
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
