"""One thread that writes: it drains a bounded queue in batches, each batch one transaction.

Whoever records gets a future at once and is never held up by the disk. Deleting old rows is done by the same thread, a
few at a time between two batches.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from lmworks.monitor.event_tables import Statement
from lmworks.monitor.rows import EncodedInteraction, check_id
from lmworks.monitor.store import DELETE_BESIDE, DELETE_OLDEST, Store, feedback_statements
from lmworks.records import Feedback

_BATCH = 256  # events of a transaction at most
_DELETED = 200  # rows of a deleting transaction at most
_HOUR = 3600.0
_PATIENCE = 30.0  # seconds for which a store that is in use by others is asked again

_logger = logging.getLogger(__name__)


class LogFullError(RuntimeError):
    """More waits to be written than the log may hold in memory."""


@dataclass(frozen=True, slots=True)
class _Task:
    """Statements of a transaction; the last of them must change a row of the interaction that is `needed`, if any."""

    statements: Sequence[Statement]
    needed: str = ""
    future: Future[int] = field(default_factory=Future)


@dataclass(slots=True)
class _Deletion:
    """A deletion of what is older than a time; the `silent` one is that which retention asks for."""

    before: float
    silent: bool = False
    future: Future[int] = field(default_factory=Future)
    deleted: int = 0
    rows_gone: bool = False


class Writer:
    """Owns a store. `retention_seconds` 0 keeps everything; else old rows are deleted at the start and every hour."""

    def __init__(
        self, store: Store, capacity: int, retention_seconds: float = 0.0, patience: float = _PATIENCE
    ) -> None:
        self._store = store
        self._queue: queue.Queue[_Task | _Deletion | None] = queue.Queue(capacity)
        self._retention = retention_seconds
        self._patience = patience
        self._retention_at = time.monotonic()
        self._deletions: list[_Deletion] = []
        self._deleting_at = 0.0  # the next step, on the monotonic clock
        self._lock = threading.Lock()
        self._closed = False
        self._pending = 0
        self._thread = threading.Thread(target=self._run, name="lmworks-log", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        return self._pending

    def record(self, row: EncodedInteraction) -> Future[int]:
        feedback = [statement for event in row.feedback for statement in feedback_statements(event)]
        return self._submit(_Task([self._store.insertion(row), *feedback]))

    def attach(self, feedback: Feedback) -> Future[int]:
        check_id(feedback.interaction)
        return self._submit(_Task(feedback_statements(feedback), feedback.interaction))

    def execute(self, statements: Sequence[Statement]) -> Future[int]:
        """Run statements in one transaction; the number of rows that they added or changed."""
        return self._submit(_Task(statements))

    def prune(self, before: float) -> Future[int]:
        return self._submit(_Deletion(before))

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._store.close()

    def _submit(self, event: _Task | _Deletion) -> Future[int]:
        event.future.set_running_or_notify_cancel()  # what has happened is recorded, whoever stops waiting for it
        with self._lock:
            if self._closed:
                raise RuntimeError("the log is closed")
            try:
                self._queue.put_nowait(event)
            except queue.Full:
                raise LogFullError(
                    f"{self._queue.maxsize} events wait to be written to the log: its disk does not keep up"
                ) from None
            self._pending += 1
        return event.future

    # -----------------------------------------------------------------------------------------------------------------
    # On the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take()
            self._write([event for event in batch if isinstance(event, _Task)])
            self._deletions += [event for event in batch if isinstance(event, _Deletion)]
            if self._retention and time.monotonic() >= self._retention_at:
                self._retention_at = time.monotonic() + _HOUR
                self._deletions.append(_Deletion(time.time() - self._retention, silent=True))
            self._delete_some()
        # Before the end: what a reader still prevents after the writer's patience is an error in its future. What
        # retention has not deleted yet, the next start will.
        deadline = time.monotonic() + self._patience
        self._deletions = [deletion for deletion in self._deletions if not deletion.silent]
        while self._deletions:
            if time.monotonic() > deadline:
                self._end_deletion(TimeoutError("a reader kept deleted rows from leaving the files of the log"))
            self._delete_some()
            time.sleep(0.01)

    def _take(self) -> tuple[list[_Task | _Deletion], bool]:
        """The waiting events, at most a batch, and whether it is the last."""
        times = [self._deleting_at] if self._deletions else []
        times += [self._retention_at] if self._retention else []
        batch: list[_Task | _Deletion] = []
        try:
            event = self._queue.get(timeout=max(0.0, min(times) - time.monotonic()) if times else None)
            while event is not None:
                batch.append(event)
                if len(batch) == _BATCH:
                    return batch, False
                event = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, tasks: Sequence[_Task]) -> None:
        """All in one transaction; where one of them fails, each in its own."""
        try:
            counts = iter(self._patiently([statement for task in tasks for statement in task.statements]))
        except Exception as error:
            if len(tasks) == 1 or self._store.transient(error):
                for task in tasks:
                    self._resolve(task.future, error)
                return
            for task in tasks:
                self._write([task])
            return
        for task in tasks:
            changed = [next(counts) for _ in task.statements]
            missing = KeyError(task.needed) if task.needed and not changed[-1] else None
            self._resolve(task.future, missing, sum(changed))

    def _patiently(self, statements: Sequence[Statement]) -> list[int]:
        """Ask the store again while others are in the way. Safe: what is already there is not written twice."""
        deadline, pause = time.monotonic() + self._patience, 0.02
        while True:
            try:
                return self._store.execute(statements) if statements else []
            except Exception as error:
                if not self._store.transient(error) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _resolve(self, future: Future[int], error: Exception | None, result: int = 0) -> None:
        with self._lock:
            self._pending -= 1
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    # -----------------------------------------------------------------------------------------------------------------
    # Deleting

    def _delete_some(self) -> None:
        """One small step of the first deletion that waits."""
        if not self._deletions or time.monotonic() < self._deleting_at:
            return
        first = self._deletions[0]
        try:
            if not first.rows_gone:
                (deleted,) = self._store.execute([(DELETE_OLDEST, (first.before, _DELETED))])
                first.deleted += deleted
                if deleted < _DELETED:
                    self._store.execute([(statement, (first.before,)) for statement in DELETE_BESIDE])
                    first.rows_gone = True
                return
            if self._store.purge():
                self._end_deletion(None)
            else:
                self._deleting_at = time.monotonic() + 0.2
        except Exception as error:
            if self._store.transient(error):
                self._deleting_at = time.monotonic() + 0.2
            else:
                self._end_deletion(error)

    def _end_deletion(self, error: Exception | None) -> None:
        deletion = self._deletions.pop(0)
        if not deletion.silent:
            self._resolve(deletion.future, error, deletion.deleted)
        elif error is not None:
            _logger.error("rows past their retention could not be deleted from the log: %s", error)
