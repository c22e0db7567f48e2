"""Connections for as many threads as read at a time; none is ever used by two at once."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """Makes a connection when none is free; the first at once, so that what is wrong is said then.

    `is_dead` says of a connection that it must not be used again.
    """

    def __init__(self, connect: Callable[[], C], is_dead: Callable[[C], bool] = lambda connection: False) -> None:
        self._connect, self._is_dead = connect, is_dead
        self._free: queue.LifoQueue[C] = queue.LifoQueue()
        self._closed = False
        self._free.put(connect())

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[C]:
        """A connection for the block, a new one if `fresh`. RuntimeError once the pool is closed."""
        if self._closed:
            raise RuntimeError("the log is closed")
        connection = self._connect() if fresh else self._take()
        try:
            yield connection
        finally:
            if not self._is_dead(connection):
                self._free.put(connection)
            if self._closed:
                self._close_free()

    def close(self) -> None:
        """Close every connection, those that are lent when they come back."""
        self._closed = True
        self._close_free()

    def _take(self) -> C:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._connect()

    def _close_free(self) -> None:
        while True:
            try:
                self._free.get_nowait().close()
            except queue.Empty:
                return
