"""Between the event loop and other threads: long work goes to a thread, what a model's thread makes comes back."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar

from lmworks.records import Message
from lmworks.serve.events import BusyError, DeadlineError

P = ParamSpec("P")
T = TypeVar("T")

# Characters or tokens up to which the work on a text is done at once. Below it, some hundred microseconds, the way to
# a thread and back costs as much again, and it costs the model more than that: every thread that wakes up stops one of
# those that compute. Much above it the other requests would feel the wait.
SHORT = 4096


async def run_off_loop(length: int, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function, on a thread if the text that it works on is longer than `SHORT`."""
    if length <= SHORT:
        return function(*arguments, **named)
    return await asyncio.to_thread(function, *arguments, **named)


def text_length(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Characters of a conversation, calls of functions and their definitions included; roughly."""
    functions = [*tools, *(call for message in messages for call in message.tool_calls)]
    return sum(len(message.content) for message in messages) + (len(str(functions)) if functions else 0)


class WorkQueue:
    """One thread that works for clients, of whom `most` may wait; `waiting` counts the requests that it works on or
    that wait for it."""

    def __init__(self, name: str, most: int, deadline_seconds: float) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most, self._seconds = most, deadline_seconds
        self._lock = threading.Lock()
        self.waiting = 0

    def run(self, function: Callable[..., T], *arguments: Any) -> Coroutine[Any, Any, T]:
        """Have a function called on the thread, BusyError at once. Its result is awaited until the deadline, a
        DeadlineError; what was begun is not interrupted."""
        if self.waiting > self._most:
            raise BusyError(self.waiting)
        with self._lock:
            self.waiting += 1
        future = self._thread.submit(function, *arguments)
        future.add_done_callback(self._leave)
        return self._result(future)

    async def _result(self, future: Future[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlineError(f"not finished within {self._seconds:g} s") from None

    def _leave(self, _: object) -> None:
        with self._lock:
            self.waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


class DeadlineQueue(Generic[T]):
    """A queue that other threads fill and the event loop awaits, until a deadline.

    Made on the event loop; its listeners may be called on any thread, in order.
    """

    def __init__(self, deadline_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()  # None wakes who waits past the deadline
        self._seconds = deadline_seconds
        # One timer for all items: to set one for each of them would cost as much as the items themselves.
        self._timer = self._loop.call_later(deadline_seconds, self._queue.put_nowait, None)

    def listener(self, choice: int) -> Callable[[T], None]:
        """A function that puts its argument into the queue, as coming from this choice."""

        def listen(item: T) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (choice, item))

        return listen

    async def next(self) -> tuple[int, T]:
        """The next item with its choice; DeadlineError when the deadline passes first."""
        item = await self._queue.get()
        if item is None:
            raise DeadlineError(f"not finished within {self._seconds:g} s")
        return item

    async def next_after_deadline(self) -> tuple[int, T]:
        """The next item, also past the deadline."""
        while (item := await self._queue.get()) is None:
            continue
        return item

    def close(self) -> None:
        """Stop the deadline's timer."""
        self._timer.cancel()
