"""Responses that can be asked for again, and gone on from, while the server runs.

They are in memory alone. The log would not do: what it holds was redacted, and no client can take anything out of it.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from lmworks.records import Message
from lmworks.serve.thread_offload import characters

MOST_RESPONSES = 1000
MOST_CHARACTERS = 32_000_000  # of all of them, as JSON


@dataclass(frozen=True, slots=True)
class Kept:
    """A response of this id.

    body          its JSON, as it was told.
    messages      the conversation that was answered, without the instructions.
    answer        what came then; None where a call in it cannot be read, so that nothing can go on from it.
    conversation  where it belongs, for the log.
    time          when it was asked for, in seconds since the epoch.
    """

    id: str
    body: bytes
    messages: tuple[Message, ...]
    answer: Message | None
    conversation: str
    time: float

    @property
    def characters(self) -> int:
        """What it takes, roughly; turns of one conversation share their messages, which count for each."""
        return len(self.body) + characters(self.messages)


class KeptResponses:
    """The newest `MOST_RESPONSES`, fewer when they are large; none that is older than the log keeps what it holds.

    For the event loop alone. `retention_seconds` 0 is no limit.
    """

    def __init__(self, retention_seconds: float = 0.0) -> None:
        self._retention = retention_seconds
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._characters = 0

    def add(self, kept: Kept) -> None:
        self.remove(kept.id)
        self._kept[kept.id] = kept
        self._characters += kept.characters
        self._drop_old()
        while len(self._kept) > MOST_RESPONSES or self._characters > MOST_CHARACTERS:
            self.remove(next(iter(self._kept)))

    def get(self, identifier: str) -> Kept | None:
        """None for one that was never kept, or is not any more."""
        self._drop_old()
        return self._kept.get(identifier)

    def remove(self, identifier: str) -> None:
        found = self._kept.pop(identifier, None)
        if found is not None:
            self._characters -= found.characters

    def _drop_old(self) -> None:
        if self._retention:
            oldest = time.time() - self._retention
            for identifier in [one.id for one in self._kept.values() if one.time < oldest]:
                self.remove(identifier)
