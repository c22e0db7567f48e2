"""Interactions into the log, each once, and told to whoever counts them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lmworks.monitor.log import Log, LogFullError
from lmworks.records import Interaction
from lmworks.serve.aside import aside, characters

T = TypeVar("T")

_FULL_SECONDS = 0.02  # between two tries when the log's queue is full


class Recorder:
    """Commits on the event loop. A commit that was begun is finished, whatever becomes of the request it belongs to."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.observers: list[Callable[[Interaction], None]] = []
        self.cut_off = "client_left"  # why requests are cut off that nobody asked to end; at the end, the server's
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether something is still to be committed."""
        return bool(self._tasks)

    async def commit(self, interaction: Interaction) -> None:
        """Returns once the interaction is committed; errors of the log are raised."""
        await self.finish(self.write(interaction))

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that goes on to its end also when the request that waits here is gone."""
        return await asyncio.shield(self.later(work))

    def later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that must be finished although its request is gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def write(self, interaction: Interaction) -> None:
        """`commit` for what `finish` or `later` brings to its end."""
        while True:
            try:
                committed = await aside(_length(interaction), self.log.record, interaction)  # redaction reads all texts
                break
            except LogFullError:  # back-pressure: the answer waits until the disk has caught up
                await asyncio.sleep(_FULL_SECONDS)
        await asyncio.wrap_future(committed)
        for observer in self.observers:
            observer(interaction)


def _length(interaction: Interaction) -> int:
    """Characters and numbers that are to be read and written."""
    texts = [one.text for one in (*interaction.retrieved, *interaction.verdicts)]
    texts += interaction.rendered_prompt, interaction.response, str(interaction.parameters)
    numbers = len(interaction.prompt_ids) + len(interaction.token_ids) + len(interaction.query_embedding)
    return numbers + characters(interaction.messages, interaction.tools) + sum(map(len, texts))
