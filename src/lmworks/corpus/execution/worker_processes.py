"""Parts in processes of this machine: each takes one part after another, and whoever dies is replaced.

They are new interpreters rather than forks, which would inherit locks and threads of libraries in any state.
"""

import pickle
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Generic, TypeVar

from lmworks.corpus.execution.child_processes import end_with_parent, how_it_ended, start_child
from lmworks.corpus.execution.work_parts import Part, Prepared, Work, do_part, prepared

P = TypeVar("P")
TRIES = 3  # of a part at which processes die
_PATIENCE = 10.0  # seconds that an idle process has to end


def by_processes(work: Work[P] | Prepared[P], parts: Iterator[Part[P]], workers: int) -> Iterator[Part[P]]:
    """The parts as they are done, by at most so many processes; no more of them are started than there are parts.

    Raises what a part raises, when the others have done theirs, and ChildProcessError for a part at which `TRIES`
    processes died. Closed, or interrupted, it kills the processes.
    """
    pool: list[_Worker[P]] = []
    ahead: deque[Part[P]] = deque()  # of the parts, ready for whoever is free next
    deaths = Counter[Path]()
    exhausted = False
    try:
        while True:
            while (free := next((each for each in pool if each.part is None), None)) or len(pool) < workers:
                part = ahead.popleft() if ahead else next(parts, None)
                if part is None:
                    exhausted = True
                    break
                if free is None:
                    pool.append(_Worker(work))
                (free or pool[-1]).begin(part)
            busy = {each.connection: (each, each.part) for each in pool if each.part is not None}
            if not busy:
                return
            may_prepare = not exhausted and len(ahead) < workers
            for connection in wait(list(busy), 0 if may_prepare else None):
                worker, part = busy[connection]  # type: ignore[index]
                try:
                    error = worker.answer()
                except EOFError:  # whatever was half done has a name that nobody reads
                    pool.remove(worker)
                    worker.kill()
                    deaths[part.done] += 1
                    if deaths[part.done] == TRIES:
                        raise ChildProcessError(
                            f"{TRIES} processes died, one after the other, while they made {part.done} (the last by "
                            f"{how_it_ended(worker.process)}). SIGKILL is what a system without memory sends: fewer "
                            "workers need less. Finished parts are kept; the same command resumes"
                        ) from None
                    ahead.appendleft(part)
                    continue
                if error is not None:
                    raise error
                yield part
            if may_prepare:
                if (part := next(parts, None)) is None:
                    exhausted = True
                else:
                    ahead.append(part)
    except Exception:
        for worker in pool:  # what others are at is worth keeping
            with suppress(EOFError):
                if worker.part is not None:
                    worker.answer()
        raise
    finally:
        _close(pool)


class _Worker(Generic[P]):
    """A process, and the part that it is at."""

    def __init__(self, work: Work[P] | Prepared[P]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work))
        self.part: Part[P] | None = None
        start_child(self.process)
        theirs.close()

    def begin(self, part: Part[P]) -> None:
        """Have the process do a part."""
        self.part = part
        with suppress(BrokenPipeError, ConnectionResetError):  # it is dead, as its answer will tell
            self.connection.send(part)

    def answer(self) -> BaseException | None:
        """The error that the part raised, None where it is done. EOFError where the process died."""
        try:
            error = self.connection.recv()
        except ConnectionResetError:
            raise EOFError from None
        self.part = None
        return error

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _close(pool: list[_Worker[P]]) -> None:
    for worker in pool:
        worker.connection.close()  # end of file: the idle ones return
    for worker in pool:
        if worker.part is None:
            worker.process.join(_PATIENCE)
        worker.kill()


# ---------------------------------------------------------------------------------------------------------------------
# In the other processes


def _serve(connection: Connection, work: Work[P] | Prepared[P]) -> None:
    end_with_parent()
    ready: Work[P] | None = None
    with ExitStack() as stack:
        while True:
            try:
                part: Part[P] = connection.recv()
            except EOFError:
                return
            answer = None
            try:
                ready = ready or stack.enter_context(prepared(work))
                do_part(ready, part)
            except Exception as error:
                error.add_note(f"While {part.done} was made:\n{traceback.format_exc()}")
                answer = _sendable(error)
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    """The error, or one with its words: some can be sent and not be received."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
