"""The scheduler: continuous batching with chunked prefill, in pure Python, without a model.

Requests join and leave between any two steps (Orca: Yu et al. 2022, section 3.1). A step is one ragged batch: a token
for every request that decodes, and chunks of prompts up to a budget, so that a long prompt delays nobody by more than
the budget (Sarathi-Serve: Agrawal et al. 2024, section 4). What a request still has to compute is what its cached
sequence does not hold: a new prompt, the rest of one, one token, or all of it again after a preemption, are one case.

Who of those in line enters first:

1. the smaller `priority`;
2. those that were preempted, because their work is half done;
3. the client that has been served the fewest tokens, generated ones counting double (Sheng et al. 2024, "Fairness in
   serving large language models", algorithm 2; a client that comes back does not bring credit from its absence);
4. the earlier deadline, then the earlier arrival.

When the pages run out, the request that would enter last is preempted: its pages are given up, and it goes back into
line, to be computed again (what of it is still cached is found) or moved back in.

Requests that begin alike and arrive together compute their beginning once. Of those that would compute the same tokens
in one step the first one does, and the others, with their slots, look in the next step at what has become known, as
long as that is most of what they would do. Nobody ever waits for a request that has no part in the step itself, so
whatever becomes of that one, the others continue a step later.
"""

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from lmworks.config import positive
from lmworks.generate.paged_cache import OutOfPagesError, PagedCache
from lmworks.generate.request_state import RequestState

_PROMPT_TOKEN, _GENERATED_TOKEN = 1, 2  # what a token counts for its client


@dataclass(slots=True)
class WaitingLine:
    """Waiting requests, a sorted list for each client. Only the first of each can enter next, so a step compares one
    request of each client."""

    clients: dict[str, list[tuple[tuple[float, ...], RequestState]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.clients.values()))

    def __iter__(self) -> Iterator[RequestState]:
        return (request for line in self.clients.values() for _, request in line)

    def append(self, request: RequestState) -> None:
        insort(self.clients.setdefault(request.client, []), (_order(request), request))

    def remove(self, request: RequestState) -> None:
        line = self.clients[request.client]
        del line[next(index for index, (_, queued) in enumerate(line) if queued is request)]  # mostly the first
        if not line:
            del self.clients[request.client]

    def first(self) -> Iterator[RequestState]:
        """The first request of each client that takes part in steps."""
        for line in self.clients.values():
            yield from islice((request for _, request in line if not request.held), 1)


def _order(request: RequestState) -> tuple[float, ...]:
    """Order among the requests of one client; no two have the same arrival."""
    return request.priority, not request.preempted, request.deadline_at, request.arrival


class Scheduler:
    """Gives `slots` to requests, and `prefill_tokens` a step to the prompts.

    enter, leave   called when a request gets its cached sequence, and when it is to give it up but continues later.
    fail           called when one of these has raised for a request: it must end there, and `release` it.
    grid           chunks of prompts end at multiples of it (`Runner.grid`).
    """

    def __init__(
        self,
        cache: PagedCache,
        slots: int,
        prefill_tokens: int,
        enter: Callable[[RequestState], None],
        leave: Callable[[RequestState], None],
        fail: Callable[[RequestState, Exception], None],
        grid: int | None = None,
    ) -> None:
        positive(slots=slots, prefill_tokens=prefill_tokens)
        self.slots, self.prefill_tokens, self.grid = slots, prefill_tokens, grid
        self.running: list[RequestState] = []
        self.waiting = WaitingLine()
        self.preemptions = 0
        self._cache, self._enter, self._leave, self._fail = cache, enter, leave, fail
        self._served: dict[str, int] = {}  # tokens by client
        self._arrivals = 0
        # Who found no room last, and how many pages were available then.
        self._refused: tuple[RequestState | None, int] = (None, 0)

    def submit(self, request: RequestState) -> None:
        """Put a request in line."""
        request.arrival = self._arrivals
        self._arrivals += 1
        active = {running.client for running in self.running} | self.waiting.clients.keys()
        if request.client not in active:
            least = min((self._served[client] for client in active), default=0)
            # A client that was served less than those that are active comes back as their equal and may be forgotten.
            self._served = {
                client: served for client, served in self._served.items() if client in active or served > least > 0
            }
            self._served[request.client] = max(self._served.get(request.client, 0), least)
        self.waiting.append(request)

    def release(self, request: RequestState) -> None:
        """The request is finished or cancelled: it leaves, wherever it is."""
        (self.running if request in self.running else self.waiting).remove(request)

    def next(self) -> dict[RequestState, int]:
        """The next step: how many of its uncomputed tokens each request runs. The pages for them are reserved. Empty
        when there is nothing to do."""
        scheduled: dict[RequestState, int] = {}
        for request in sorted(self.running, key=self._rank):
            if request not in self.running or request.uncomputed_tokens != 1 or request.held:
                continue
            if self._reserve(request, 1, scheduled):
                scheduled[request] = 1
        self._fill(scheduled)
        return scheduled

    def charge(self, request: RequestState, computed: int, guessed: int = 0) -> None:
        """Count for the request's client the tokens that a step has computed and kept, and generated tokens beyond the
        one that was scheduled: guesses that were right. A request that is held after all has got nothing."""
        weight = _GENERATED_TOKEN if computed == 1 else _PROMPT_TOKEN
        self._served[request.client] += computed * weight + guessed * _GENERATED_TOKEN

    def preempt(self, request: RequestState) -> None:
        """Take a request's pages away; it waits in line to continue."""
        if request.computed_tokens > request.cached_tokens:  # else nothing of it is half done
            self.preemptions += 1
            request.preempted = True
        try:
            self._leave(request)
        except Exception as error:  # its pages are free in either case
            self._fail(request, error)
            return
        self.running.remove(request)
        self.waiting.append(request)

    def worst(self) -> RequestState | None:
        """The running request that would be preempted first: the latest arrival of the largest priority."""
        return max(self.running, key=lambda request: (request.priority, request.arrival), default=None)

    def _fill(self, scheduled: dict[RequestState, int]) -> None:
        """Add chunks of prompts, of those that run and of those that enter, up to the budget."""
        budget, enters, followers = self.prefill_tokens, True, set[RequestState]()
        while budget > 0:
            unserved = [
                r for r in self.running if r.uncomputed_tokens > 1 and r not in scheduled and r not in followers
            ]
            candidates = [*(r for r in unserved if not r.held), *(self.waiting.first() if enters else ())]
            # Within one priority, those that have a slot go first.
            request = min(candidates, key=lambda r: (r.priority, r not in self.running, *self._rank(r)), default=None)
            if request is None:
                return
            entering = request not in self.running
            if entering and not self._admit(request, scheduled):
                enters = request.done  # who failed on the way in keeps nobody out
                continue
            if not entering:  # take over what other requests have computed since it entered
                assert request.sequence is not None
                adopted = self._cache.adopt(request.sequence, request.all_ids)
                request.cached_tokens += 0 if request.preempted else adopted
            tokens = self._chunk(request, budget)
            if tokens == 0:
                return  # the rest of the budget is too small for a chunk
            if any(2 * self._computed_by(*entry, request) >= tokens for entry in scheduled.items()):
                followers.add(request)
                continue
            if self._reserve(request, tokens, scheduled):
                scheduled[request] = tokens
                budget -= tokens
                if entering:
                    self._refused = (None, 0)
            elif entering:
                enters = False

    def _rank(self, request: RequestState) -> tuple[float, ...]:
        return (
            request.priority,
            not request.preempted,
            self._served.get(request.client, 0),
            request.deadline_at,
            request.arrival,
        )

    def _admit(self, request: RequestState, scheduled: dict[RequestState, int]) -> bool:
        """Give a waiting request a slot, and its cached sequence. Those of larger priority, or that are worth less, may
        have to make room; False when there is none and it waits, or has failed."""
        refused, available = self._refused
        if request is refused and self._cache.available <= available:
            return False  # nothing was given back since
        while len(self.running) >= self.slots:
            worst = self.worst()
            if worst is None or worst.priority <= request.priority:
                return False
            self._evict(worst, scheduled)
        self.waiting.remove(request)
        self.running.append(request)
        while True:
            try:
                self._enter(request)
                return True
            except OutOfPagesError:
                worst = self.worst()
                if worst is None or worst is request:
                    self.running.remove(request)
                    self.waiting.append(request)
                    self._refused = (request, self._cache.available)
                    return False
                self._evict(worst, scheduled)
            except Exception as error:
                self._fail(request, error)
                return False

    def _chunk(self, request: RequestState, budget: int) -> int:
        """The number of its uncomputed tokens that go into a step that has room for `budget`."""
        if self.grid is None:
            return min(request.uncomputed_tokens, budget)
        tokens = min(request.uncomputed_tokens, self.grid - request.computed_tokens % self.grid)
        # Only the first chunk of a step may be larger than the budget: it cannot be cut.
        return 0 if tokens > budget < self.prefill_tokens else tokens

    def _computed_by(self, leader: RequestState, tokens: int, request: RequestState) -> int:
        """The number of a request's next uncomputed tokens that the `tokens` of another one in the step compute, and
        that are cached after it: 0 unless they fill the page that is next."""
        unit = self._cache.alignment
        end = min(leader.computed_tokens + tokens, request.length - 1) // unit * unit
        start = request.computed_tokens // unit * unit + unit
        if not leader.computed_tokens < start <= end or not self._cache.share:
            return 0
        if (leader.adapter, leader.source_ids) != (request.adapter, request.source_ids):
            return 0
        ids, leader_ids = request.all_ids, leader.all_ids
        if ids[:start] != leader_ids[:start]:
            return 0
        while start < end and ids[start : start + unit] == leader_ids[start : start + unit]:
            start += unit
        return start - request.computed_tokens

    def _reserve(self, request: RequestState, tokens: int, scheduled: dict[RequestState, int]) -> bool:
        """Pages for so many tokens more, if need be at the cost of a request that is worth less, or of itself."""
        assert request.sequence is not None
        while True:
            try:
                self._cache.reserve(request.sequence, tokens)
                return True
            except OutOfPagesError:
                # Alone and without room, it waits until scores or a search give pages back.
                worst = self.worst()
                assert worst is not None
                self._evict(worst, scheduled)
                if worst is request:
                    self._refused = (request, self._cache.available)
                    return False

    def _evict(self, request: RequestState, scheduled: dict[RequestState, int]) -> None:
        """Preempt a request that may have a part in the step already."""
        self.preempt(request)
        scheduled.pop(request, None)
