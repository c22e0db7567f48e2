"""A server that runs answers by the version that was promoted, and by the one before after a rollback."""

import asyncio
import time
from dataclasses import replace

from lmworks.records import Message
from lmworks.serve.config import ServeConfig
from lmworks.serve.events import Finished
from lmworks.serve.interaction_record import Turn
from lmworks.serve.service import Service
from lmworks.versions import Gate, keep, promote, rollback, version_id
from lmworks.workspace import VERSION, read_current


def test_a_promotion_and_a_rollback_reach_a_server_that_runs(workspace_copy):
    first = read_current(workspace_copy)
    other = replace(first, writing=replace(first.writing, statements=2))
    other = replace(other, version=version_id(workspace_copy, other))
    keep(workspace_copy, other)
    service = Service(workspace_copy, ServeConfig())

    async def answering() -> str:
        """The version that answers now."""
        events = [one async for one in service.chat(Turn("assistant", (Message("user", "How many days of leave?"),)))]
        finished = next(one for one in events if isinstance(one, Finished))
        return finished.interaction.lineage[VERSION]

    async def until(wanted: str) -> None:
        deadline = time.monotonic() + 60
        while await answering() != wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)

    async def course() -> None:
        assert await answering() == first.version
        promote(workspace_copy, other, Gate(True, "", {}), "shorter")
        await until(other.version)
        assert service.current == other
        rollback(workspace_copy)
        await until(first.version)

    try:
        service.load()
        asyncio.run(course())
    finally:
        service.close()
