"""Extractors behind a wall: in a process of their own, which may take too long, too much memory, or crash.

Parsers of HTML, PDF and the like are C code that meets whatever a file holds. One that hangs or dies costs its own
record a reason, and never the run.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from lmworks.data.extract import Extracted, Extractor, UnusableError


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """Bounds of one file's extraction.

    seconds    Longest time.
    megabytes  Most memory of the process that extracts, beyond what it has at its start.
    """

    seconds: float = 60.0
    megabytes: int = 2048

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.megabytes < 64:
            raise ValueError("a guard needs seconds above 0 and at least 64 megabytes")


class Guard:
    """Calls extractors in one other process, which is started anew after each that did not come back.

    The process is started at the first call. Use it as a context manager, or `close` it.
    """

    def __init__(self, config: GuardConfig | None = None) -> None:
        self._config = config or GuardConfig()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> "Guard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def extract(self, extractor: Extractor, raw: bytes) -> Extracted:
        """What the extractor, a function that pickles, gives for these bytes.

        Raises UnusableError, as the extractor does, and where it took too long or too much memory or died of it; and
        what else the extractor raises, as an UnusableError too, since it was these bytes that it could not stand.
        """
        connection = self._started()
        try:
            connection.send((extractor, raw))
            if not connection.poll(self._config.seconds):
                self.close()
                raise UnusableError(f"its extraction took longer than {self._config.seconds:g} s")
            good, result = connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            told = self._end()
            raise UnusableError(f"its extraction crashed ({told})") from None
        if not good:
            raise UnusableError(result)
        return result

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def _started(self) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            context = get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._config.megabytes), daemon=True)
            self._process.start()
            theirs.close()
        return self._connection

    def _end(self) -> str:
        """Forget the process; how it ended."""
        assert self._process is not None and self._connection is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._connection.close()
        self._process = self._connection = None
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def _serve(connection: Connection, megabytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes this
    _limit_memory(megabytes)
    while True:
        try:
            extractor, raw = connection.recv()
        except EOFError:
            return
        connection.send(_tried(extractor, raw))


def _tried(extractor: Callable[[bytes], Extracted], raw: bytes) -> tuple[bool, Any]:
    try:
        return True, extractor(raw)
    except UnusableError as error:
        return False, str(error)
    except MemoryError:
        return False, "its extraction needed too much memory"
    except RecursionError:
        return False, "its parts are nested too deeply"
    except Exception as error:  # a parser's own surprise at what the file holds
        return False, f"its extraction failed: {type(error).__name__}: {error}"[:300]


def _limit_memory(megabytes: int) -> None:
    """Address space, since no system bounds what is resident; so it counts from what the process has mapped now."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
        mapped = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = mapped + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
