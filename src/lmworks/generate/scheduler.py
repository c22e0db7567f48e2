"""Who runs next: continuous batching in pure Python, without a model.

Requests join and leave between any two steps (Orca: Yu et al., 2022, section 3.1, iteration-level scheduling). One
rule: prefill first, else decode all. Waiting requests enter in the order they came as soon as a slot is free; two
prefills never follow each other while a request is decoding, so that a stream of new arrivals cannot starve those that
run.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Work:
    """One step of the engine: the requests to prefill or to decode, with the slot of each."""

    kind: Literal["prefill", "decode"]
    slots: Mapping[str, int]  # request id -> slot, in rising order of slots


class Scheduler:
    """Gives `slots` cache slots to requests; the prompts of a prefill hold `prefill_tokens` or are one."""

    def __init__(self, slots: int, prefill_tokens: int) -> None:
        if slots < 1 or prefill_tokens < 1:
            raise ValueError(f"slots and prefill_tokens must be positive, got {slots} and {prefill_tokens}")
        self.prefill_tokens = prefill_tokens
        self.running: dict[str, int] = {}  # request id -> slot
        self._waiting: deque[tuple[str, int]] = deque()  # (request id, prompt length)
        self._free = set(range(slots))
        self._prefilled_last = False

    def __contains__(self, request: str) -> bool:
        return request in self.running or any(request == waiting for waiting, _ in self._waiting)

    @property
    def idle(self) -> bool:
        return not self.running and not self._waiting

    def submit(self, request: str, prompt_length: int) -> None:
        """Queue a request; ValueError when its id is in use."""
        if request in self:
            raise ValueError(f"request id {request!r} is in use; ids of unfinished requests must differ")
        self._waiting.append((request, prompt_length))

    def release(self, request: str) -> None:
        """The request is finished or cancelled: free its slot, or take it out of the queue. Unknown ids are ignored."""
        if request in self.running:
            self._free.add(self.running.pop(request))
        else:
            self._waiting = deque(entry for entry in self._waiting if entry[0] != request)

    def next(self) -> Work | None:
        """The next step, or None when there is nothing to do. Every request of it has its slot until `release`."""
        may_prefill = not (self._prefilled_last and self.running)
        self._prefilled_last = bool(may_prefill and self._waiting and self._free)
        if self._prefilled_last:
            return Work("prefill", self._admit())
        if self.running:
            return Work("decode", dict(sorted(self.running.items(), key=lambda entry: entry[1])))
        return None

    def _admit(self) -> dict[str, int]:
        """Move requests from the head of the queue into the lowest free slots, while slots and tokens last.

        The lowest slots keep the running ones close together, which makes a decode step's view of the cache cheap.
        """
        admitted: dict[str, int] = {}
        total = 0
        while self._waiting and self._free:
            request, length = self._waiting[0]
            total += length
            if admitted and total > self.prefill_tokens:
                break
            self._waiting.popleft()
            admitted[request] = min(self._free)
            self._free.remove(admitted[request])
        self.running.update(admitted)
        return admitted
