"""Parts as tasks of Ray, of which only the core is used: a part is a task, and files carry what comes in and out.

A task whose process or machine dies is done again, on whatever is left. All machines of a cluster see the folders under
the same paths, as on a network file system, and have lmworks installed.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lmworks.corpus.execution.work_parts import Part, Prepared, Work, do_part, prepared

P = TypeVar("P")
RETRIES = 3  # of a part whose process dies
_PATIENCE = 10.0  # seconds that a cluster has to answer
_STORE_BYTES = 100 * 2**20  # of shared memory for objects, of which there are none: by default it takes a third of all


def by_ray(work: Work[P] | Prepared[P], parts: Iterator[Part[P]], workers: int) -> Iterator[Part[P]]:
    """The parts as they are done; `workers` is for a cluster that is started here, 0 for all cores.

    Raises what a part raises, ChildProcessError where processes died at one again and again, ConnectionError where
    RAY_ADDRESS has an address at which no cluster answers, and ModuleNotFoundError without Ray.
    """
    with _connected(workers) as ray:
        task = ray.remote(_do_part).options(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")
        running: dict[Any, Part[P]] = {}
        exhausted = False
        while True:
            limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # machines come and go
            while not exhausted and len(running) < limit:
                part = next(parts, None)
                if part is None:
                    exhausted = True
                else:
                    running[task.remote(work, part)] = part
            if not running:
                return
            for reference in ray.wait(list(running), num_returns=1)[0]:
                part = running.pop(reference)
                _check(ray, reference, part)
                yield part


def _do_part(work: Work[P] | Prepared[P], part: Part[P]) -> None:
    with prepared(work) as ready:
        do_part(ready, part)


def _check(ray: Any, reference: Any, part: Part[P]) -> None:
    """Raise what the part raised, as it was raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise ChildProcessError(
            f"processes of Ray died {RETRIES + 1} times while they made {part.done}: {error}. Finished "
            "parts are kept; the same command resumes"
        ) from None


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
