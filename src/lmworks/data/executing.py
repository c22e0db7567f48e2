"""Work in parts: each part is done by a pure function that writes a file or a folder, here, in processes, or by Ray.

What a part makes appears whole or not at all, in a folder that survives a kill, so a run that goes on does only the
parts that are missing, and what it ends with does not depend on who did which part when.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Generic, Literal, TypeVar

from lmworks.progress import Report, no_report

Where = Literal["processes", "ray"]


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    """Who does the work. It changes no byte of what comes out.

    workers  Processes; 0: as many as this process may use cores. 1 works in this one.
    on       `processes` of this machine, or tasks of `ray`: of the cluster whose address the environment variable
             RAY_ADDRESS has, which has lmworks and sees this folder and the sources under the same paths, or else of
             one started here, with so many workers.
    """

    workers: int = 0
    on: Where = "processes"

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 4096:
            raise ValueError(f"workers must lie between 0 and 4096, got {self.workers}")

    @property
    def count(self) -> int:
        return self.workers or _cores()


def _cores() -> int:
    """Those that this process may use; macOS does not tell them from the others."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Part(Generic[P]):
    """What one call works on, and what it makes: a file, or a folder of files.

    size      For the progress, in the unit of the whole.
    consumes  A file that was made for this part alone, and goes when the part is done.
    """

    given: P
    done: Path
    size: int = 1
    consumes: Path | None = None


Work = Callable[[P, Path], None]  # (given, where to write): a function of a module, so that other processes find it


@dataclass(frozen=True, slots=True)
class Prepared(Generic[P]):
    """Work that needs something which is made once in each process, such as another process or a table: `prepare` gives
    the function of a part, and what it needs goes with the context."""

    prepare: Callable[[], AbstractContextManager[Work[P]]]


def carry_out(
    work: Work[P] | Prepared[P],
    parts: Iterable[Part[P]],
    execution: ExecutionConfig,
    progress: Report = no_report,
    unit: str = "parts",
    total: int | None = None,
) -> None:
    """Do the parts that are not done. An exception of one is raised when it comes; what is done stays done.

    An iterator of parts is asked for the next one when somebody is about to be free for it; `total` then says what
    their sizes add up to. Ctrl-C ends the processes at once, and loses the parts that they were at.

    Raises what a part raises, and ChildProcessError for one at which processes died again and again.
    """
    if isinstance(parts, Sequence):
        total = sum(part.size for part in parts)
    count = _Count(progress, unit, total)
    missing = _missing(parts, count)
    if isinstance(parts, Sequence):  # all that is there already is told of first
        missing = iter(list(missing))
    count.tell()
    with closing(_finished(work, missing, execution)) as finished:
        for part in finished:
            count.add(part.size)
    count.tell_new()


class _Count:
    """How much is done; of that, what was there from before."""

    def __init__(self, progress: Report, unit: str, total: int | None) -> None:
        self._progress, self._unit, self._total = progress, unit, total
        self.done = self.kept = self._told = 0

    def keep(self, size: int) -> None:
        self.done += size
        self.kept += size

    def add(self, size: int) -> None:
        self.done += size
        self.tell()

    def tell(self) -> None:
        self._told = self.done
        self._progress(self.done, self._total, self._unit, self.kept)

    def tell_new(self) -> None:
        if self.done != self._told:
            self.tell()


def _missing(parts: Iterable[Part[P]], count: _Count) -> Iterator[Part[P]]:
    swept: set[Path] = set()
    for part in parts:
        if (folder := part.done.parent) not in swept:
            sweep(folder)
            swept.add(folder)
        if part.done.exists():
            count.keep(part.size)
        else:
            yield part


def sweep(folder: Path) -> None:
    """Delete what killed processes left half done. Only before anybody works in this folder."""
    for path in folder.glob(".*.tmp"):
        _delete(path)


def _finished(
    work: Work[P] | Prepared[P], parts: Iterator[Part[P]], execution: ExecutionConfig
) -> Generator[Part[P], None, None]:
    first = list(islice(parts, 2))
    parts = chain(first, parts)
    if not first:
        return
    if execution.on == "ray":
        from lmworks.data.ray_tasks import by_ray

        yield from by_ray(work, parts, execution.workers)
    elif execution.count == 1 or len(first) == 1:
        with prepared(work) as ready:
            for part in parts:
                do_part(ready, part)
                yield part
    else:
        from lmworks.data.worker_processes import by_processes

        yield from by_processes(work, parts, execution.count)


def prepared(work: Work[P] | Prepared[P]) -> AbstractContextManager[Work[P]]:
    return work.prepare() if isinstance(work, Prepared) else nullcontext(work)


def do_part(work: Work[P], part: Part[P]) -> None:
    """Under a name of its own until it is whole and on the disk: two processes may do one part, and both be right."""
    if part.done.exists():  # whoever was at it before was lost when it had it
        return
    temporary = part.done.with_name(f".{part.done.name}.{secrets.token_hex(4)}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        work(part.given, temporary)
        for path in (temporary, *temporary.rglob("*")):
            _sync(path)
        _publish(temporary, part.done)
    finally:
        _delete(temporary)
    if part.consumes is not None:
        part.consumes.unlink(missing_ok=True)


def _publish(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():  # else another process was first, with the same
            raise


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
