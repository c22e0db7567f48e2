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
        self._queue: asyncio.Queue[tuple[int, T]] = asyncio.Queue()
        self._seconds = deadline_seconds
        self._until = self._loop.time() + deadline_seconds

    def listener(self, choice: int) -> Callable[[T], None]:
        """A function that puts what it is told into the inbox, as coming from this choice."""

        def listen(item: T) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (choice, item))

        return listen

    async def next(self) -> tuple[int, T]:
        """The next item with its choice; DeadlineError when the deadline passes first."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout_at(self._until):  # unlike wait_for, it neither loses an item nor a cancellation
                return await self._queue.get()
        except TimeoutError:
            raise DeadlineError(f"not finished within {self._seconds:g} s") from None

    async def next_whenever(self) -> tuple[int, T]:
        """The next item, without the deadline."""
        return await self._queue.get()
