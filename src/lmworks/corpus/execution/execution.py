"""Work in parts: each part is done by a pure function that writes a file or a folder, here, in processes, or by Ray.

What a part makes appears whole or not at all, in a folder that survives a kill, so a run that continues does only the
parts that are missing, and what it ends with does not depend on who did which part when.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from lmworks.compiled import cores
from lmworks.corpus.execution.ray_tasks import by_ray
from lmworks.corpus.execution.work_parts import P, Part, Prepared, Work, delete, do_part, prepared
from lmworks.corpus.execution.worker_processes import by_processes
from lmworks.progress import Report, no_report


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    """Who does the work. It changes no byte of what comes out.

    workers  Processes; 0: as many as this process may use cores. 1 works in this one.
    on       `processes` of this machine, or tasks of `ray`: of the cluster whose address the environment variable
             RAY_ADDRESS has, which has lmworks and sees this folder and the sources under the same paths, or else of
             one started here, with so many workers.
    """

    workers: int = 0
    on: Literal["processes", "ray"] = "processes"

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 4096:
            raise ValueError(f"workers must lie between 0 and 4096, got {self.workers}")

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.workers or cores()


def carry_out(
    work: Work[P] | Prepared[P],
    parts: Iterable[Part[P]],
    execution: ExecutionConfig,
    progress: Report = no_report,
    unit: str = "parts",
    total: int | None = None,
) -> None:
    """Do the parts that are not done. An exception of one is raised when it comes; what is done stays done.

    Sizes in bytes, of a `unit` that begins so, are reported in kB or MB.

    An iterator of parts is asked for the next one when somebody is about to be free for it; `total` then says what
    their sizes add up to. Ctrl-C ends the processes at once, and loses the parts that they were at.

    Raises what a part raises, and ChildProcessError for one at which processes died again and again.
    """
    done = kept = reported = 0  # sizes; of what is done, what was there from before

    def missing() -> Iterator[Part[P]]:
        nonlocal done, kept
        swept: set[Path] = set()
        for part in parts:
            if (folder := part.done.parent) not in swept:
                sweep(folder)
                swept.add(folder)
            if part.done.exists():
                done, kept = done + part.size, kept + part.size
            else:
                yield part

    todo = missing()
    if isinstance(parts, Sequence):
        total = sum(part.size for part in parts)
        todo = iter(list(todo))  # what is there already is reported first
    if unit.startswith("bytes"):
        unit, progress = in_units(total or 0, progress, unit)
    progress(done, total, unit, kept)
    reported = done
    with closing(_finished(work, todo, execution)) as finished:
        for part in finished:
            done += part.size
            progress(done, total, unit, kept)
            reported = done
    if reported != done:
        progress(done, total, unit, kept)


def in_units(size: int, progress: Report, unit: str = "bytes") -> tuple[str, Report]:
    """The unit for progress in bytes, and a report in that unit."""
    name, scale = ("MB", 1_000_000) if size >= 100_000_000 else ("kB", 1000)

    def report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
        progress(done // scale, total and total // scale, unit, kept // scale, note)

    return unit.replace("bytes", name, 1), report


def sweep(folder: Path) -> None:
    """Delete what killed processes left half done. Only before anybody works in this folder."""
    for path in folder.glob(".*.tmp"):
        delete(path)


def _finished(
    work: Work[P] | Prepared[P], parts: Iterator[Part[P]], execution: ExecutionConfig
) -> Generator[Part[P], None, None]:
    first = list(islice(parts, 2))
    parts = chain(first, parts)
    if not first:
        return
    if execution.on == "ray":
        yield from by_ray(work, parts, execution.workers)
    elif execution.count == 1 or len(first) == 1:
        with prepared(work) as ready:
            for part in parts:
                do_part(ready, part)
                yield part
    else:
        yield from by_processes(work, parts, execution.count)
