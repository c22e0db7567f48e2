"""Work in parts: each part is done by a pure function that writes a file or a folder, here, in processes, or by Ray.

What a part makes appears whole or not at all, in a folder that survives a kill, so a run that continues does only the
parts that are missing, and what it ends with does not depend on who did which part when.
"""

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from lmworks.artefact import publish
from lmworks.compiled import cores
from lmworks.config import within
from lmworks.progress import Report, no_report
from lmworks.sandbox import Mark, Sandbox, SandboxError

P = TypeVar("P")
TRIES = 3  # of a part at which processes die


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
        within(0, 4096, workers=self.workers)

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.workers or cores()


@dataclass(frozen=True, slots=True)
class Part(Generic[P]):
    """The work of one call, and what it makes: a file, or a folder of files.

    size      For the progress, in the unit of the whole.
    consumes  A file that was made for this part alone, and goes when the part is done.
    """

    given: P
    done: Path
    size: int = 1
    consumes: Path | None = None


Work = Callable[[P, Path], None]  # (given, where to write): a function of a module, so that other processes find it


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does parts next to this process: `submit` has one done, and `most` is how many may be asked for at once."""

    submit: Callable[[Work, Part], Future[None]]
    most: Callable[[], int]


def carry_out(
    work: Work[P],
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
                for path in folder.glob(".*.tmp"):  # what killed processes left half done
                    _delete(path)
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


def _finished(work: Work[P], parts: Iterator[Part[P]], execution: ExecutionConfig) -> Generator[Part[P], None, None]:
    """The parts as they are done. One that fails ends it when the others have done theirs, which are worth keeping."""
    first = list(islice(parts, 2))
    parts = chain(first, parts)
    if not first:
        return
    if execution.on == "processes" and (execution.count == 1 or len(first) == 1):
        for part in parts:
            do_part(work, part)
            yield part
        return
    running: dict[Future[None], Part[P]] = {}
    made_by = _ray_tasks(execution.workers) if execution.on == "ray" else _worker_processes(execution.count)
    with made_by as workers:
        try:
            while True:
                while len(running) < workers.most() and (part := next(parts, None)) is not None:
                    running[workers.submit(work, part)] = part
                if not running:
                    return
                # Not for longer: Python sees a Ctrl-C that comes just before it waits only afterwards.
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    part = running.pop(future)
                    future.result()
                    yield part
        except Exception:
            for future in running:
                future.cancel()
            wait(running)
            raise


def do_part(work: Work[P], part: Part[P]) -> None:
    """Under a name of its own until it is whole and on the disk: two processes may do one part, and both be right."""
    if part.done.exists():  # made by a process that died after it had published it
        return
    temporary = part.done.with_name(f".{part.done.name}.{secrets.token_hex(4)}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        work(part.given, temporary)
        publish(temporary, part.done)
    except OSError:
        if not part.done.exists():  # else another process was first, with the same
            raise
    finally:
        _delete(temporary)
    if part.consumes is not None:
        part.consumes.unlink(missing_ok=True)


def _delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _worker_processes(count: int) -> Iterator[Workers]:
    """Processes of this machine, no more than there are parts. They are new interpreters rather than forks, which would
    inherit locks and threads of libraries in any state. Whoever dies is replaced; left early, all are killed."""
    processes = [Sandbox(None, "the work") for _ in range(count)]
    idle = list(processes)

    def do(work: Work[P], part: Part[P]) -> None:
        process, problem = idle.pop(), ""
        try:
            for _ in range(TRIES):
                try:
                    list(process.stream(_do_part, (work, part)))
                    return
                except SandboxError as death:  # whatever was half done has a name that nobody reads
                    problem = str(death)
        finally:
            idle.append(process)
        raise ChildProcessError(
            f"{TRIES} processes died, one after the other, while they made {part.done} (at last {problem}). SIGKILL "
            "is what a system without memory sends: fewer workers need less. Finished parts are kept; the same command "
            "resumes"
        )

    with ThreadPoolExecutor(count) as pool:  # a thread for each, which waits for it
        try:
            yield Workers(partial(pool.submit, do), lambda: 2 * count)
        finally:
            for process in processes:
                process.kill()


def _do_part(given: tuple[Work[P], Part[P]], _: Mark) -> Iterator[None]:
    do_part(*given)
    yield


# ---------------------------------------------------------------------------------------------------------------------
# Ray

RETRIES = 3  # of a part whose process dies
_PATIENCE = 10.0  # seconds that a cluster has to answer
_STORE_BYTES = 100 * 2**20  # of shared memory for objects, of which there are none: by default it takes a third of all
_THREADS = 4096


@contextmanager
def _ray_tasks(workers: int) -> Iterator[Workers]:
    """Tasks of a cluster; only the core of Ray is used: files carry what comes in and out. A task whose process or
    machine dies is done again, on whatever is left. All machines see the folders under the same paths, as on a network
    file system, and have lmworks installed. `workers` is for a cluster that is started here, 0 for all cores.

    Raises ConnectionError where RAY_ADDRESS has an address at which no cluster answers, ModuleNotFoundError without
    Ray, and for a part what it raises, or ChildProcessError where processes died at it again and again.
    """
    with ThreadPoolExecutor(_THREADS) as pool, _connected(workers) as ray:  # a thread waits for each task
        task = ray.remote(do_part).options(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")

        def do(work: Work[P], part: Part[P]) -> None:
            try:
                ray.get(task.remote(work, part))
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                raise ChildProcessError(
                    f"processes of Ray died {RETRIES + 1} times while they made {part.done}: {error}. Finished "
                    "parts are kept; the same command resumes"
                ) from None

        # Machines come and go.
        yield Workers(partial(pool.submit, do), lambda: 2 * max(1, int(ray.cluster_resources().get("CPU", 1))))


@contextmanager
def _connected(workers: int) -> Iterator[Any]:
    """Ray, connected to the cluster of RAY_ADDRESS, or to one that is started here and ends with the block. Who is
    connected already stays so."""
    address = os.environ.get("RAY_ADDRESS", "")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage statistics are sent
    if not address:  # on the loopback interface alone, as Ray does by itself on other systems than Linux
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"logging_level": "warning", "log_to_driver": False}
    if address:
        _check_answers(address)
        ray.init(address, **quiet)
    else:
        ray.init(
            "local",
            num_cpus=workers or None,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """ConnectionError where nobody does: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # such as "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        message = f"RAY_ADDRESS is {address}, and no cluster answers there: {error.strerror or error}"
        raise ConnectionError(f"{message}. Start one there, or unset it, and one is started here") from None
