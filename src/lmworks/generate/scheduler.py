"""Who runs next, and with how many tokens: continuous batching with chunked prefill, in pure Python, without a model.

Requests join and leave between any two steps (Orca: Yu et al. 2022, section 3.1). A step is one ragged batch: a token
for every request that decodes, and chunks of prompts up to a budget, so that a long prompt delays nobody by more than
the budget (Sarathi-Serve: Agrawal et al. 2024, section 4). What a request still has to compute is what its cached
sequence lacks: a new prompt, the rest of one, one token, or all of it again after a preemption, are the same case.

Who of those in line enters first:

1. the smaller `priority`;
2. whoever was preempted, because its work is half done;
3. the client that has been served the fewest tokens, generated ones counting double (Sheng et al. 2024, "Fairness in
   serving large language models", algorithm 2; a client that comes back does not bring credit from its absence);
4. the earlier deadline, then the earlier arrival.

When the pages run out, the request that would enter last is preempted: its pages are given up, and it goes back into
line, to be computed again (what of it is still cached is found) or moved back in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lmworks.generate.live_request import LiveRequest
from lmworks.generate.paged_cache import OutOfPagesError, PagedCache

_PROMPT_TOKEN, _GENERATED_TOKEN = 1, 2  # what a token counts for its client


@dataclass(slots=True)
class Share:
    """A request's part of a step: how many of the tokens that it lacks."""

    request: LiveRequest
    tokens: int


class Scheduler:
    """Gives `slots` to requests, and `prefill_tokens` a step to the prompts.

    enter, leave   called when a request gets its cached sequence, and when it is to give it up but goes on later.
    fail           called when one of these has raised for a request: it must end there, and `release` it.
    grid           chunks of prompts end at multiples of it (`Runner.grid`).
    """

    def __init__(
        self,
        cache: PagedCache,
        slots: int,
        prefill_tokens: int,
        enter: Callable[[LiveRequest], None],
        leave: Callable[[LiveRequest], None],
        fail: Callable[[LiveRequest, Exception], None],
        grid: int | None = None,
    ) -> None:
        if slots < 1 or prefill_tokens < 1:
            raise ValueError(f"slots and prefill_tokens must be positive, got {slots} and {prefill_tokens}")
        self.slots, self.prefill_tokens, self.grid = slots, prefill_tokens, grid
        self.running: list[LiveRequest] = []
        self.waiting: list[LiveRequest] = []
        self.preemptions = 0
        self._cache, self._enter, self._leave, self._fail = cache, enter, leave, fail
        self._served: dict[str, int] = {}  # tokens by client
        self._arrivals = 0
        # Who found no room last, and how many pages were available then.
        self._refused: tuple[LiveRequest | None, int] = (None, 0)

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def submit(self, request: LiveRequest) -> None:
        """Put a request in line."""
        request.arrival = self._arrivals
        self._arrivals += 1
        active = {other.client for other in (*self.running, *self.waiting)}
        if request.client not in active:
            least = min((self._served[client] for client in active), default=0)
            # Whoever was served less than those who are here comes back as their equal, so that it may be forgotten.
            self._served = {
                client: served for client, served in self._served.items() if client in active or served > least > 0
            }
            self._served[request.client] = max(self._served.get(request.client, 0), least)
        self.waiting.append(request)

    def release(self, request: LiveRequest) -> None:
        """The request is finished or cancelled: it leaves, wherever it is."""
        (self.running if request in self.running else self.waiting).remove(request)

    def next(self) -> list[Share]:
        """The next step; the pages for its tokens are reserved. Empty when there is nothing to do."""
        shares: dict[str, Share] = {}
        for request in sorted(self.running, key=self._rank):
            if request in self.running and request.lacking == 1 and self._reserve(request, 1, shares):
                shares[request.id] = Share(request, 1)
        self._fill(shares)
        for share in shares.values():
            weight = _GENERATED_TOKEN if share.tokens == 1 else _PROMPT_TOKEN
            self._served[share.request.client] += share.tokens * weight
        return list(shares.values())

    def charge(self, request: LiveRequest, tokens: int) -> None:
        """The request has generated more tokens in a step than the one that was its share: guesses that were right."""
        self._served[request.client] += tokens * _GENERATED_TOKEN

    def preempt(self, request: LiveRequest) -> None:
        """Take a request's pages away; it waits in line to go on."""
        if request.stored > request.cached_tokens:  # else nothing was computed for it, and nothing is half done
            self.preemptions += 1
            request.preempted = True
        try:
            self._leave(request)
        except Exception as error:  # its pages are free in either case
            self._fail(request, error)
            return
        self.running.remove(request)
        self.waiting.append(request)

    def worst(self) -> LiveRequest | None:
        """The running request that would be preempted first."""
        return max(self.running, key=self._worth, default=None)

    def _fill(self, shares: dict[str, Share]) -> None:
        """Add chunks of prompts, of those that run and of those that enter, up to the budget."""
        budget, enters = self.prefill_tokens, True
        while budget > 0:
            unserved = [request for request in self.running if request.lacking > 1 and request.id not in shares]
            request = min((*unserved, *(self.waiting if enters else ())), key=self._turn, default=None)
            if request is None:
                return
            if request in self.running:
                tokens = self._prefill(request, budget, shares)
            else:
                tokens = self._admit(request, budget, shares)
                enters = tokens > 0 or request.done  # who failed on the way in keeps nobody out
            if tokens == 0 and request in self.running:
                return  # the rest of the budget is too small for a chunk
            budget -= tokens

    def _turn(self, request: LiveRequest) -> tuple[float, ...]:
        """Of one priority, those that have a slot go first."""
        return request.priority, request not in self.running, *self._rank(request)

    def _rank(self, request: LiveRequest) -> tuple[float, ...]:
        return (
            request.priority,
            not request.preempted,
            self._served.get(request.client, 0),
            request.deadline_at,
            request.arrival,
        )

    def _worth(self, request: LiveRequest) -> tuple[float, ...]:
        """Larger is preempted earlier: the later arrival of the larger priority."""
        return request.priority, request.arrival

    def _admit(self, request: LiveRequest, budget: int, shares: dict[str, Share]) -> int:
        """Give a waiting request a slot, what is cached of it, and a first chunk of what it lacks; how many tokens that
        is. Those of larger priority may have to make room; 0 when there is none."""
        refused, available = self._refused
        if request is refused and self._cache.available <= available:
            return 0  # nothing was given back since
        while len(self.running) >= self.slots:
            worst = self.worst()
            if worst is None or worst.priority <= request.priority:
                return 0
            self._evict(worst, shares)
        self.waiting.remove(request)
        self.running.append(request)
        tokens = self._prefill(request, budget, shares) if self._let_in(request, shares) else 0
        if tokens:
            self._refused = (None, 0)
        return tokens

    def _let_in(self, request: LiveRequest, shares: dict[str, Share]) -> bool:
        """Its cached sequence, if need be at the cost of a request that is worth less; False, and it waits again, or
        has failed."""
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
                self._evict(worst, shares)
            except Exception as error:
                self._fail(request, error)
                return False

    def _prefill(self, request: LiveRequest, budget: int, shares: dict[str, Share]) -> int:
        """Give it a chunk of what it lacks; how many tokens that is."""
        tokens = min(request.lacking, budget)
        if self.grid is not None:
            tokens = min(request.lacking, self.grid - request.stored % self.grid)
            if tokens > budget and budget < self.prefill_tokens:
                return 0  # only the first chunk of a step may be larger than the budget: it cannot be cut
        if not self._reserve(request, tokens, shares):
            return 0
        shares[request.id] = Share(request, tokens)
        return tokens

    def _reserve(self, request: LiveRequest, tokens: int, shares: dict[str, Share]) -> bool:
        """Pages for so many tokens more, if need be at the cost of a request that is worth less, or of itself."""
        assert request.sequence is not None
        while True:
            try:
                self._cache.reserve(request.sequence, tokens)
                return True
            except OutOfPagesError:
                # Alone and without room, it waits for whoever else holds pages: scores, or a search.
                worst = self.worst()
                assert worst is not None
                self._evict(worst, shares)
                if worst is request:
                    self._refused = (request, self._cache.available)
                    return False

    def _evict(self, request: LiveRequest, shares: dict[str, Share]) -> None:
        """Preempt a request that may have a part in the step already."""
        self.preempt(request)
        shares.pop(request.id, None)
