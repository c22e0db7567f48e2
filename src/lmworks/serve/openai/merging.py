"""Several streams of events read as one, each by a task of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merged(sources: Sequence[AsyncGenerator[T, None]], at_once: int) -> AsyncGenerator[tuple[int, T], None]:
    """(number of the source, item) as they come, from at most `at_once` sources at a time.

    The first error ends all sources and is raised; closing the iterator closes them.
    """
    if len(sources) == 1:  # nearly always: without a task and a queue in between
        async with aclosing(sources[0]) as items:
            async for item in items:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue(maxsize=64)
    room = asyncio.Semaphore(at_once)

    async def read(number: int, source: AsyncGenerator[T, None]) -> None:
        try:
            async with room, aclosing(source) as items:
                async for item in items:
                    await queue.put((number, item))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(read(number, source)) for number, source in enumerate(sources)]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
