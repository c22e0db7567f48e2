"""The thread that writes, against a store that misbehaves on demand."""

import queue
import threading
from collections.abc import Sequence

import pytest
from events import event

from lmworks.monitor import LogFullError
from lmworks.monitor.event_tables import Statement
from lmworks.monitor.rows import EncodedInteraction, encode
from lmworks.monitor.store import DELETE_BESIDE, DELETE_OLDEST
from lmworks.monitor.writer import Writer
from lmworks.records import Feedback

_WAIT = 20.0


class BusyError(Exception):
    pass


class Memory:
    """A store in memory; `errors` are raised by the next calls, `open` lets them through."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []  # ids by transaction
        self.errors: list[Exception] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.purges: list[bool] = []
        self.deleted: list[int] = []
        self.closed_by: str | None = None

    def insertion(self, row: EncodedInteraction) -> Statement:
        return "INSERT INTO interactions", row.values

    def execute(self, statements: Sequence[Statement]) -> list[int]:
        if statements[0][0] in DELETE_BESIDE:
            return [0] * len(statements)
        self.begun.set()
        assert self.open.wait(_WAIT)
        if self.errors:
            raise self.errors.pop(0)
        if statements[0][0] == DELETE_OLDEST:
            return [self.deleted.pop(0) if self.deleted else 0]
        counts, ids = [], []
        for sql, values in statements:
            known = {key for batch in (*self.batches, ids) for key in batch}
            if sql == "INSERT INTO interactions":
                ids.append(values[0])
            counts.append(int(sql == "INSERT INTO interactions" or values[-1] in known))
        self.batches += [ids] if ids else []
        return counts

    def purge(self) -> bool:
        return self.purges.pop(0) if self.purges else True

    def transient(self, error: Exception) -> bool:
        return isinstance(error, BusyError)

    def close(self) -> None:
        self.closed_by = threading.current_thread().name


def _id(number: int) -> str:
    return f"{number:016x}"


def _row(number: int) -> EncodedInteraction:
    return encode(event(number))


@pytest.fixture
def store() -> Memory:
    return Memory()


def test_what_comes_while_it_writes_is_one_batch_in_order(store) -> None:
    writer = Writer(store, capacity=100)
    store.open.clear()
    first = writer.record(_row(0))
    assert store.begun.wait(_WAIT)
    later = [writer.record(_row(number)) for number in range(1, 20)]
    assert writer.pending == 20
    assert not first.done() and not later[0].cancel()
    store.open.set()
    writer.close()
    assert store.batches == [[_id(0)], [_id(number) for number in range(1, 20)]]
    assert all(future.done() for future in later)
    assert writer.pending == 0 and store.closed_by == threading.current_thread().name


def test_feedback_follows_its_interaction(store) -> None:
    writer = Writer(store, capacity=100)
    store.open.clear()
    writer.record(_row(0))
    assert store.begun.wait(_WAIT)
    writer.record(_row(1))
    note = writer.attach(Feedback(_id(1), 1.0, "note"))
    writer.record(_row(2))
    early = writer.attach(Feedback(_id(3), 1.0, "note"))
    writer.record(_row(3))
    store.open.set()
    note.result(_WAIT)
    with pytest.raises(KeyError):
        early.result(_WAIT)
    writer.close()
    assert store.batches == [[_id(0)], [_id(1), _id(2), _id(3)]]


def test_a_full_queue_is_an_error_at_once(store) -> None:
    writer = Writer(store, capacity=3)
    store.open.clear()
    writer.record(_row(0))
    assert store.begun.wait(_WAIT)  # taken from the queue, not written
    accepted = [writer.record(_row(number)) for number in (1, 2, 3)]
    with pytest.raises(LogFullError):
        writer.record(_row(4))
    store.open.set()
    for future in accepted:
        future.result(_WAIT)
    writer.record(_row(5)).result(_WAIT)
    writer.close()
    assert [key for batch in store.batches for key in batch] == [_id(number) for number in (0, 1, 2, 3, 5)]


def test_a_batch_that_fails_fails_its_futures_alone(store) -> None:
    writer = Writer(store, capacity=100)
    for act in (
        lambda: writer.record(_row(1)),
        lambda: writer.attach(Feedback(_id(1), 1.0, "note")),
        lambda: writer.prune(1.0),
    ):
        store.errors = [OSError("disk full")]
        with pytest.raises(OSError, match="disk full"):
            act().result(_WAIT)
        act().result(_WAIT)
    writer.close()
    assert store.batches == [[_id(1)]]


def test_what_is_busy_is_asked_again_until_patience_ends(store) -> None:
    writer = Writer(store, capacity=100, patience=0.1)
    store.errors = [BusyError(), BusyError()]
    writer.record(_row(0)).result(_WAIT)
    store.errors = [BusyError()]
    assert writer.prune(1.0).result(_WAIT) == 0
    store.errors = [BusyError("still") for _ in range(1000)]
    with pytest.raises(BusyError, match="still"):
        writer.record(_row(1)).result(_WAIT)
    store.errors = []
    writer.record(_row(2)).result(_WAIT)
    writer.close()
    assert store.batches == [[_id(0)], [_id(2)]]


def test_events_are_written_between_two_steps_of_a_deletion_which_ends_when_its_traces_are_gone(store) -> None:
    writer = Writer(store, capacity=100)
    store.deleted, store.purges = [200] * 50 + [7], [False, True]
    pruned = writer.prune(1.0)
    writer.record(_row(0)).result(_WAIT)
    assert pruned.result(_WAIT) == 50 * 200 + 7 and store.purges == []
    writer.close()


def test_closing_finishes_deletions_or_says_why_not(store) -> None:
    writer = Writer(store, capacity=100, patience=0.1)
    store.deleted, store.purges = [200, 3], [False] * 10_000
    pruned = writer.prune(1.0)
    writer.close()
    with pytest.raises(TimeoutError):
        pruned.result(0)
    assert store.deleted == []


def test_retention_begins_at_once_and_its_errors_are_logged(store, monkeypatch) -> None:
    errors = queue.Queue()
    monkeypatch.setattr("lmworks.monitor.writer._logger.error", lambda *arguments: errors.put(arguments))
    store.errors = [OSError("disk full")]
    writer = Writer(store, capacity=100, retention_seconds=10.0)
    assert str(errors.get(timeout=_WAIT)[-1]) == "disk full"
    writer.record(_row(0)).result(_WAIT)
    writer.close()
