"""From the threads of the models to the event loop: a queue that an await can read, with a deadline."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from lmworks.serve.events import DeadlineError

T = TypeVar("T")


class Inbox(Generic[T]):
    """Made on the event loop; its listeners may be called on any thread, in order."""

    def __init__(self, deadline_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()  # None wakes who waits past the deadline
        self._seconds = deadline_seconds
        # One timer for all items: to set one for each of them would cost as much as the items themselves.
        self._timer = self._loop.call_later(deadline_seconds, self._queue.put_nowait, None)

    def listener(self, choice: int) -> Callable[[T], None]:
        """A function that puts what it is told into the inbox, as coming from this choice."""

        def listen(item: T) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (choice, item))

        return listen

    async def next(self) -> tuple[int, T]:
        """The next item with its choice; DeadlineError when the deadline passes first."""
        item = await self._queue.get()
        if item is None:
            raise DeadlineError(f"not finished within {self._seconds:g} s")
        return item

    async def next_whenever(self) -> tuple[int, T]:
        """The next item, also past the deadline."""
        while (item := await self._queue.get()) is None:
            continue
        return item

    def close(self) -> None:
        """No deadline any more: nobody waits."""
        self._timer.cancel()
