"""Work in parts: each part is done by a pure function that writes a file or a folder, here, in processes, or by Ray.

What a part makes appears whole or not at all, in a folder that survives a kill, so a run that goes on does only the
parts that are missing, and what it ends with does not depend on who did which part when.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, Literal, TypeVar

from lmworks.progress import Report, no_report

Where = Literal["processes", "ray"]


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    """Who does the work. It changes no byte of what comes out.

    workers  Processes; 0: as many as this process may use cores. 1 works in this one.
    on       `processes` of this machine, or tasks of `ray`: of the cluster whose address the environment variable
             RAY_ADDRESS has, which sees this folder under the same path, or else of one started here.
    """

    workers: int = 0
    on: Where = "processes"

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 4096:
            raise ValueError(f"workers must lie between 0 and 4096, got {self.workers}")

    @property
    def count(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))


P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Part(Generic[P]):
    """What one call works on, and what it makes: a file, or a folder of files."""

    given: P
    done: Path
    size: int = 1  # for the progress, in the unit of the whole


Work = Callable[[P, Path], None]  # (given, where to write): a function of a module, so that other processes find it


def carry_out(
    work: Work[P], parts: Sequence[Part[P]], execution: ExecutionConfig, progress: Report = no_report, unit: str = "parts"
) -> None:
    """Do the parts that are not done. An exception of one is raised when it comes; what is done stays done."""
    total = sum(part.size for part in parts)
    missing = [part for part in parts if not part.done.exists()]
    kept = done = total - sum(part.size for part in missing)
    progress(done, total, unit, kept)
    for part in _finished(work, missing, execution):
        done += part.size
        progress(done, total, unit, kept)


def _finished(work: Work[P], parts: Sequence[Part[P]], execution: ExecutionConfig) -> Iterator[Part[P]]:
    if not parts:
        return
    if execution.on == "ray":
        yield from _by_ray(work, parts, execution.workers)
    elif execution.count == 1 or len(parts) == 1:
        for part in parts:
            do_part(work, part)
            yield part
    else:
        yield from _by_processes(work, parts, min(execution.count, len(parts)))


def do_part(work: Work[P], part: Part[P]) -> None:
    """Under a name of its own until it is whole and on the disk: two processes may do one part, and both be right."""
    temporary = part.done.with_name(f".{part.done.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        work(part.given, temporary)
        for path in (temporary, *temporary.rglob("*")):
            _sync(path)
        if not part.done.exists():
            temporary.rename(part.done)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _by_processes(work: Work[P], parts: Sequence[Part[P]], workers: int) -> Iterator[Part[P]]:
    """New interpreters rather than forks, which would inherit locks and threads of libraries in any state."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = list(reversed(parts))
        running: dict[Future[None], Part[P]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    part = waiting.pop()
                    running[pool.submit(do_part, work, part)] = part
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    part = running.pop(future)
                    future.result()
                    yield part
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _by_ray(work: Work[P], parts: Sequence[Part[P]], workers: int) -> Iterator[Part[P]]:
    try:
        import ray
    except ImportError:
        raise ModuleNotFoundError('Ray is not installed: pip install "lmworks[ray]", or set on="processes"') from None
    if not ray.is_initialized():
        options = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers or None, "include_dashboard": False}
        ray.init(logging_level="warning", log_to_driver=False, **options)
    task = ray.remote(do_part).options(num_cpus=1, max_retries=3)
    waiting = list(reversed(parts))
    running = {}
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    while waiting or running:
        while waiting and len(running) < limit:
            part = waiting.pop()
            running[task.remote(work, part)] = part
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            ray.get(reference)
            yield running.pop(reference)
