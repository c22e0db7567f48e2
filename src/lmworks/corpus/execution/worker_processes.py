"""Parts in processes of this machine: each takes one part after another, and whoever dies is replaced.

They are new interpreters rather than forks, which would inherit locks and threads of libraries in any state.
"""

import pickle
import traceback
from collections import Counter, deque
from collections.abc import Iterator
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
    pool = _Pool(work, parts, workers)
    try:
        yield from pool.run()
    except Exception:
        pool.wait_for_running()
        raise
    finally:
        pool.close()


class _Worker(Generic[P]):
    """A process, and the part that it is at."""

    def __init__(self, work: Work[P] | Prepared[P]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work))
        self.part: Part[P] | None = None
        start_child(self.process)
        theirs.close()

    def begin(self, part: Part[P]) -> bool:
        """False where it is dead."""
        self.part = part
        try:
            self.connection.send(part)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answer(self) -> BaseException | None:
        """What the part raised, None where it is done. EOFError where the process died."""
        try:
            return self.connection.recv()
        except ConnectionResetError:
            raise EOFError from None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Pool(Generic[P]):
    def __init__(self, work: Work[P] | Prepared[P], parts: Iterator[Part[P]], workers: int) -> None:
        self._work, self._parts, self._limit = work, parts, workers
        self._ahead: deque[Part[P]] = deque()  # of the parts, ready for whoever is free next
        self._exhausted = False
        self._idle: list[_Worker[P]] = []
        self._busy: dict[Connection, _Worker[P]] = {}
        self._deaths: Counter[Path] = Counter()

    def run(self) -> Iterator[Part[P]]:
        while True:
            self._hand_out()
            if not self._busy:
                return
            may_prepare = not self._exhausted and len(self._ahead) < self._limit
            for connection in wait(list(self._busy), 0 if may_prepare else None):
                if (part := self._finish(self._busy[connection])) is not None:  # type: ignore[index]
                    yield part
            if may_prepare:
                self._prepare()

    def wait_for_running(self) -> None:
        """Until those that are at a part have done it, whatever comes of it."""
        while self._busy:
            for connection in wait(list(self._busy)):
                worker = self._busy.pop(connection)  # type: ignore[arg-type]
                try:
                    worker.answer()
                except EOFError:
                    worker.kill()
                else:
                    self._idle.append(worker)

    def close(self) -> None:
        for worker in self._busy.values():
            worker.kill()
        for worker in self._idle:
            worker.connection.close()  # which tells it to end
        for worker in self._idle:
            worker.process.join(_PATIENCE)
            worker.kill()

    def _hand_out(self) -> None:
        """A part to everybody who is free, or could be started."""
        while self._idle or len(self._busy) < self._limit:
            if not self._ahead:
                self._prepare()
            if not self._ahead:
                return
            worker = self._idle[-1] if self._idle else _Worker(self._work)
            self._busy[worker.connection] = worker  # before it leaves the idle: an interruption between finds it
            self._idle = self._idle[:-1]
            if not worker.begin(self._ahead.popleft()):
                self._replace(worker)

    def _prepare(self) -> None:
        part = None if self._exhausted else next(self._parts, None)
        if part is None:
            self._exhausted = True
        else:
            self._ahead.append(part)

    def _finish(self, worker: _Worker[P]) -> Part[P] | None:
        """The part that it has done; None where it died, and somebody else shall do it."""
        try:
            error = worker.answer()
        except EOFError:
            self._replace(worker)
            return None
        self._idle.append(worker)
        del self._busy[worker.connection]
        if error is not None:
            raise error
        return worker.part

    def _replace(self, worker: _Worker[P]) -> None:
        """Give its part to somebody else. Whatever was half done has a name that nobody reads."""
        part = worker.part
        assert part is not None
        self._busy.pop(worker.connection)
        worker.kill()
        self._deaths[part.done] += 1
        if self._deaths[part.done] == TRIES:
            raise ChildProcessError(
                f"{TRIES} processes died, one after the other, while they made {part.done} (the last by "
                f"{how_it_ended(worker.process)}). SIGKILL is what a system without memory sends: fewer workers need "
                "less. What is done is kept, and the same command goes on"
            )
        self._ahead.appendleft(part)


# ---------------------------------------------------------------------------------------------------------------------
# In the other processes


def _serve(connection: Connection, work: Work[P] | Prepared[P]) -> None:
    end_with_parent()
    with prepared(work) as ready:
        while True:
            try:
                part = connection.recv()
            except EOFError:
                return
            connection.send(_tried(ready, part))


def _tried(work: Work[P], part: Part[P]) -> BaseException | None:
    try:
        do_part(work, part)
    except Exception as error:
        error.add_note(f"While {part.done} was made:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))  # some can be sent and not be received
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error
    return None
