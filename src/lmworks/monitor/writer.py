"""One thread that writes: it drains a bounded queue in batches, each batch one transaction.

Whoever records gets a future at once and is never held up by the disk. Deleting old rows is done by the same thread, a
few at a time between two batches.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from lmworks.monitor.event_tables import Statement
from lmworks.monitor.rows import EncodedInteraction, check_id
from lmworks.monitor.store import Store
from lmworks.records import Feedback

_BATCH = 256  # events of a transaction at most
_DELETED = 200  # rows of a deleting transaction at most
_HOUR = 3600.0
_PATIENCE = 30.0  # seconds for which a store that is in use by others is asked again

_logger = logging.getLogger(__name__)


class LogFullError(RuntimeError):
    """More waits to be written than the log may hold in memory."""


_Kind = Literal["append", "attach", "execute", "delete"]  # of an event: the method of the store


@dataclass(frozen=True, slots=True)
class _Task:
    """An event: an interaction, feedback, the statements of a transaction, or a time before which all is deleted."""

    kind: _Kind
    payload: Any
    future: Future[Any]


@dataclass(slots=True)
class _Deletion:
    """A deletion under way; `future` is None for the one that retention asks for."""

    before: float
    future: Future[int] | None
    deleted: int = 0
    rows_gone: bool = False


class Writer:
    """Owns a store. `retention_seconds` 0 keeps everything; else old rows are deleted at the start and every hour."""

    def __init__(
        self, store: Store, capacity: int, retention_seconds: float = 0.0, patience: float = _PATIENCE
    ) -> None:
        self._store = store
        self._queue: queue.Queue[_Task | None] = queue.Queue(capacity)
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

    def record(self, row: EncodedInteraction) -> Future[None]:
        return self._submit("append", row)

    def attach(self, feedback: Feedback) -> Future[None]:
        check_id(feedback.interaction)
        return self._submit("attach", feedback)

    def execute(self, statements: tuple[Statement, ...]) -> Future[int]:
        """Run statements in one transaction; the number of rows that they added or changed."""
        return self._submit("execute", statements)

    def prune(self, before: float) -> Future[int]:
        return self._submit("delete", before)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._store.close()

    def _submit(self, kind: _Kind, payload: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # what has happened is recorded, whoever stops waiting for it
        with self._lock:
            if self._closed:
                raise RuntimeError("the log is closed")
            try:
                self._queue.put_nowait(_Task(kind, payload, future))
            except queue.Full:
                raise LogFullError(
                    f"{self._queue.maxsize} events wait to be written to the log: its disk does not keep up"
                ) from None
            self._pending += 1
        return future

    # -----------------------------------------------------------------------------------------------------------------
    # On the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._take()
            for _, group in groupby(batch, key=lambda task: task.kind):
                self._write(list(group))
            if self._retention and time.monotonic() >= self._retention_at:
                self._retention_at = time.monotonic() + _HOUR
                self._deletions.append(_Deletion(time.time() - self._retention, None))
            self._delete_some()
        self._finish_deletions()

    def _take(self) -> tuple[list[_Task], bool]:
        """The waiting events, at most a batch, and whether it is the last."""
        batch: list[_Task] = []
        try:
            task = self._queue.get(timeout=self._rest())
            while task is not None:
                batch.append(task)
                if len(batch) == _BATCH:
                    return batch, False
                task = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _rest(self) -> float | None:
        """Seconds for which there is nothing to do but wait for events; None without end."""
        times = [self._deleting_at] if self._deletions else []
        times += [self._retention_at] if self._retention else []
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _write(self, tasks: list[_Task]) -> None:
        """Events of one kind."""
        if (kind := tasks[0].kind) == "delete":
            self._deletions += [_Deletion(task.payload, task.future) for task in tasks]
        elif kind == "execute":
            self._execute(tasks)
        else:
            self._add(self._store.append if kind == "append" else self._store.attach, tasks)

    def _add(self, function: Callable[[Sequence[Any]], Any], tasks: list[_Task]) -> None:
        """Interactions, or feedback on those that are there."""
        try:
            known = self._patiently(function, [task.payload for task in tasks]) or [True] * len(tasks)
        except Exception as error:
            for task in tasks:
                self._resolve(task.future, error)
            return
        for task, there in zip(tasks, known, strict=True):
            self._resolve(task.future, None if there else KeyError(task.payload.interaction))

    def _execute(self, tasks: list[_Task]) -> None:
        """All in one transaction; where one of them fails, each in its own."""
        parts: list[tuple[Statement, ...]] = [task.payload for task in tasks]
        try:
            counts = iter(self._patiently(self._store.execute, [one for part in parts for one in part]))
        except Exception as error:
            if len(tasks) == 1:
                self._resolve(tasks[0].future, error)
                return
            for task in tasks:
                self._execute([task])
            return
        for task, part in zip(tasks, parts, strict=True):
            self._resolve(task.future, None, sum(next(counts) for _ in part))

    def _patiently(self, function: Callable[[Sequence[Any]], Any], payloads: Sequence[Any]) -> Any:
        """Call the store again while others are in the way. Safe: what is already there is not written twice."""
        deadline, pause = time.monotonic() + self._patience, 0.02
        while True:
            try:
                return function(payloads)
            except Exception as error:
                if not self._store.transient(error) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _resolve(self, future: Future[Any], error: Exception | None, result: Any = None) -> None:
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
                deleted = self._store.delete(first.before, _DELETED)
                first.deleted += deleted
                first.rows_gone = deleted < _DELETED
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
        if deletion.future is not None:
            self._resolve(deletion.future, error, deletion.deleted)
        elif error is not None:
            _logger.error("rows past their retention could not be deleted from the log: %s", error)

    def _finish_deletions(self) -> None:
        """Before the end: what a reader still prevents after the writer's patience is an error in its future.

        What retention has not deleted yet, the next start will.
        """
        deadline = time.monotonic() + self._patience
        self._deletions = [deletion for deletion in self._deletions if deletion.future]
        while self._deletions:
            if time.monotonic() > deadline:
                self._end_deletion(TimeoutError("a reader kept deleted rows from leaving the files of the log"))
            self._delete_some()
            time.sleep(0.01)
