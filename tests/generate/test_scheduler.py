"""The scheduler against its contract, on arbitrary arrivals, lengths, priorities, clients and cancellations.

There is no model: a request's step commits its tokens to a real page table and appends a token when nothing is lacking.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.paged_cache import PAGE, PagedCache
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.request_state import RequestState
from lmworks.generate.scheduler import Scheduler


@dataclass
class World:
    """A scheduler, its cache, and requests that run as the engine would run them.

    moves   preempted requests keep their tokens elsewhere and come back with them; else they are computed again.
    """

    slots: int = 2
    prefill_tokens: int = 64
    pages: int = 1000
    grid: int | None = None
    moves: bool = False
    windows: tuple[int | None, ...] = (None,)
    requests: dict[str, RequestState] = field(default_factory=dict)
    generated: dict[str, int] = field(default_factory=dict)  # tokens by client
    computed: int = 0  # tokens
    fails_to_enter: str = ""
    fails_to_leave: str = ""

    def __post_init__(self) -> None:
        self.cache = PagedCache(self.windows, self.pages, lambda *_: None, self.grid or PAGE)
        self.scheduler = Scheduler(
            self.cache, self.slots, self.prefill_tokens, self._enter, self._leave, self._fail, self.grid
        )

    def submit(
        self, name: str, prompt: int, tokens: int = 1, deadline: float | None = None, like: int = -1, **options: Any
    ) -> None:
        """Every prompt is its own, so that requests compete for pages; those `like` the same number begin alike."""
        unused: Any = None
        first = 1000 * (len(self.requests) if like < 0 else 1000 + like)
        ids = tuple(first + n for n in range(prompt))
        self.requests[name] = request = RequestState(
            name, ids, SamplingParameters(), 0, set(), tokens, unused, unused, unused, deadline=deadline, **options
        )
        request.submitted = 0.0
        self.scheduler.submit(request)

    def step(self) -> dict[RequestState, int]:
        scheduled = self.scheduler.next()
        for request, tokens in scheduled.items():
            assert request.sequence is not None and 0 < tokens <= request.uncomputed_tokens
            self.computed += tokens
            self.cache.commit(request.sequence, request.next_ids(tokens))
            self.scheduler.charge(request, tokens)
            if request.uncomputed_tokens == 0:
                request.ids.append(7)
                self.generated[request.client] = self.generated.get(request.client, 0) + 1
                if len(request.ids) == request.limit:
                    self.release(request.id)
        return scheduled

    def release(self, name: str) -> None:
        request = self.requests[name]
        self.scheduler.release(request)
        if request.sequence is not None:
            self.cache.close(request.sequence)
        request.sequence, request.finish_reason = None, "stop"

    @property
    def running(self) -> list[str]:
        return [request.id for request in self.scheduler.running]

    @property
    def idle(self) -> bool:
        return not self.scheduler.running and not self.scheduler.waiting

    def finish(self, most: int) -> None:
        for _ in range(most):
            if self.idle:
                return
            self.step()
        raise AssertionError(f"not idle after {most} steps: {self.running}")

    def _enter(self, request: RequestState) -> None:
        if request.id == self.fails_to_enter:
            raise MemoryError("no memory")
        if request.moved is not None:
            assert request.sequence is not None
            self.cache.occupy(request.sequence)
            request.moved = None
            return
        request.sequence = self.cache.open([*request.prompt_ids, *request.ids])
        if not request.preempted:
            request.cached_tokens = request.sequence.length

    def _fail(self, request: RequestState, error: Exception) -> None:
        self.release(request.id)
        request.finish_reason, request.error = None, error

    def _leave(self, request: RequestState) -> None:
        assert request.sequence is not None
        if request.id == self.fails_to_leave:
            raise MemoryError("no memory")
        if self.moves:
            request.moved = object()
            self.cache.vacate(request.sequence)
        else:
            self.cache.close(request.sequence)
            request.sequence = None


# (step of arrival, prompt length, tokens wanted, priority, client, step at which it is cancelled or None, like whom)
_REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.integers(1, 50),
        st.integers(1, 30),
        st.integers(0, 1),
        st.sampled_from("ab"),
        st.none() | st.integers(0, 30),
        st.integers(-1, 1),
    ),
    max_size=12,
)
_WORLDS = st.builds(
    World,
    slots=st.integers(1, 5),
    prefill_tokens=st.integers(1, 100),
    pages=st.integers(6, 20),  # at least what one request needs: 80 tokens, and a page for the next one
    grid=st.sampled_from((None, None, 32)),
    moves=st.booleans(),
    windows=st.sampled_from(((None,), (None, 20))),
)


@given(_REQUESTS, _WORLDS)
def test_every_request_finishes_and_the_promises_hold_at_every_step(requests: list, world: World) -> None:
    steps = 60 + 4 * sum(1 + length // min(world.prefill_tokens, 32) + tokens for _, length, tokens, *_ in requests)
    for step in range(steps):
        for number, (arrival, length, tokens, priority, client, _, like) in enumerate(requests):
            if arrival == step:
                world.submit(str(number), length, tokens, priority=priority, client=client, like=like)
        for number, (arrival, *_, cancelled, _) in enumerate(requests):
            if cancelled == step and arrival <= step and not world.requests[str(number)].done:
                world.release(str(number))
        decoding = {request.id for request in world.scheduler.running if request.uncomputed_tokens == 1}
        waiting = list(world.scheduler.waiting)
        before = world.scheduler.preemptions
        idle = world.idle
        scheduled = world.step()
        assert scheduled or idle, "somebody always goes on"
        names = [request.id for request, tokens in scheduled.items()]
        assert len(set(names)) == len(names) <= world.slots and len(world.scheduler.running) <= world.slots
        prompts = [tokens for request, tokens in scheduled.items() if request.id not in decoding]
        largest = world.prefill_tokens if world.grid is None else max(world.prefill_tokens, world.grid)
        assert sum(prompts) <= largest, "the budget"
        if world.grid is not None:
            ends = [request.computed_tokens for request, tokens in scheduled.items() if tokens > 1 and request.sequence]
            assert all(end % world.grid == 0 or end >= length for end, length in _with_lengths(ends, scheduled))
        if world.scheduler.preemptions == before:
            assert decoding <= set(names), "whoever decodes does so in every step"
        if world.cache.available >= 6:  # room for any of them: then no prompt goes before one of smaller priority
            kept_out = {other.priority for other in waiting if other in world.scheduler.waiting}
            served = {request.priority for request, tokens in scheduled.items() if request.id not in decoding}
            assert not (0 in kept_out and 1 in served)
        if step > 30 and world.idle:
            break
    assert world.idle and all(request.done for request in world.requests.values())
    assert world.cache.used == 0


def _with_lengths(ends: list[int], scheduled: dict[RequestState, int]) -> list[tuple[int, int]]:
    lengths = [request.length for request, tokens in scheduled.items() if tokens > 1 and request.sequence]
    return list(zip(ends, (length - 1 for length in lengths), strict=True))


def test_a_long_prompt_delays_nobody_by_more_than_the_budget() -> None:
    world = World(slots=3, prefill_tokens=20)
    world.submit("decodes", 5, tokens=50)
    world.step()
    world.submit("long", 1000)
    for _ in range(10):
        scheduled = {request.id: tokens for request, tokens in world.step().items()}
        assert scheduled == {"decodes": 1, "long": 20}


def test_one_budget_is_for_all_prompts() -> None:
    world = World(slots=9, prefill_tokens=20)
    for n in range(5):
        world.submit(str(n), 8, tokens=9)
    assert list(world.step().values()) == [8, 8, 4]
    assert list(world.step().values()) == [1, 1, 4, 8, 8]


def test_on_a_grid_only_the_first_chunk_of_a_step_exceeds_the_budget() -> None:
    world = World(slots=9, prefill_tokens=20, grid=32)
    for n in range(3):
        world.submit(str(n), 40, tokens=9)
    found = [[(request.id, tokens) for request, tokens in world.step().items()] for _ in range(5)]
    assert found[0] == [("0", 32)]
    assert found[1] == [("0", 8)], "a chunk of 32 does not fit into the rest of the budget"
    assert found[2] == [("0", 1), ("1", 32)]


def test_a_smaller_priority_enters_first_and_takes_the_slot_of_a_larger_one() -> None:
    world = World(slots=1)
    world.submit("late", 5, tokens=10, priority=2)
    world.step()
    world.step()
    world.submit("later", 5, tokens=2, priority=1)
    world.submit("first", 5, tokens=2, priority=0)
    assert [(request.id, tokens) for request, tokens in world.step().items()] == [("first", 5)]
    world.submit("equal", 5, tokens=2, priority=0)
    order = []
    while not world.idle:
        order += [name for name in (request.id for request in world.step()) if name not in order[-1:]]
    assert order == ["first", "equal", "later", "late"], "equals do not preempt each other"
    assert world.scheduler.preemptions == 1


def test_pages_are_taken_from_the_larger_priority_and_never_from_the_smaller() -> None:
    world = World(slots=4, pages=6)
    world.submit("urgent", 30, tokens=40, priority=0)  # grows from two pages to five
    world.submit("patient", 40, tokens=20, priority=1)
    world.step()
    assert world.running == ["urgent", "patient"]
    while not world.requests["urgent"].done:
        scheduled = [request.id for request in world.step()]
        assert "urgent" in scheduled
    assert world.requests["patient"].preempted and not world.requests["urgent"].preempted
    world.finish(80)


def test_of_equals_the_later_one_makes_room_and_is_the_first_to_come_back() -> None:
    world = World(slots=3, pages=5)
    world.submit("early", 30, tokens=40)
    world.submit("late", 30, tokens=5)
    world.step()
    world.submit("waiting", 20, tokens=5)
    entered = []
    for _ in range(200):
        world.step()
        entered += [name for name in world.running if name not in entered]
        if world.idle:
            break
    assert not world.requests["early"].preempted
    assert world.idle and entered[:2] == ["early", "late"]


@for_each("moves", [False, True])
def test_a_request_that_does_not_fit_waits_without_being_taken_for_preempted(moves: bool) -> None:
    """Nothing of it was computed: it does not overtake others, and is not let in and out at every step."""
    world = World(slots=4, pages=6, moves=moves)
    world.submit("holds", 70, tokens=15, client="a")
    world.step()
    world.step()
    world.submit("does not fit", 60, tokens=2, client="b")
    for _ in range(5):
        assert [request.id for request in world.step()] == ["holds"]
    assert world.scheduler.preemptions == 0 and not world.requests["does not fit"].preempted
    entries: list[str] = []
    enter = world.scheduler._enter
    world.scheduler._enter = lambda request: (entries.append(request.id), enter(request))[1]
    for _ in range(5):
        world.step()
    assert len(entries) <= 1, "it is tried again when pages were given back"
    world.finish(60)


def test_pages_that_somebody_else_holds_are_waited_for() -> None:
    world = World(slots=2, pages=6)
    scores = world.cache.open([5] * 60)
    world.cache.reserve(scores, 60)
    world.submit("waits", 50, tokens=3)
    for _ in range(3):
        assert world.step() == {}
    world.cache.close(scores)
    world.finish(10)


def test_a_request_that_cannot_enter_fails_alone_and_keeps_nobody_out() -> None:
    world = World(fails_to_enter="broken", slots=3)
    for name in ("early", "broken", "late"):
        world.submit(name, 5, tokens=3)
    assert [request.id for request in world.step()] == ["early", "late"]
    assert isinstance(world.requests["broken"].error, MemoryError)
    assert world.running == ["early", "late"] and not world.scheduler.waiting
    world.finish(3)


def test_a_request_that_cannot_be_moved_out_fails_alone_and_makes_room_by_it() -> None:
    world = World(slots=1, moves=True, fails_to_leave="patient")
    world.submit("patient", 5, tokens=10, priority=1)
    world.step()
    world.submit("urgent", 5, tokens=2)
    assert [request.id for request in world.step()] == ["urgent"]
    assert isinstance(world.requests["patient"].error, MemoryError)
    world.finish(3)
    assert world.cache.used == 0


@for_each("lengths", [(5, 5), (30, 8)])
def test_clients_get_equal_shares_however_many_requests_they_send(lengths: tuple[int, int]) -> None:
    """Virtual token counter (Sheng et al. 2024, theorem 4.4): while both are backlogged, what they were served differs
    by at most twice the larger of one prompt and the tokens of a full batch."""
    world = World(slots=2, prefill_tokens=50)
    for n in range(20):
        world.submit(f"many-{n}", lengths[0], tokens=6, client="many")
    for n in range(2):
        world.submit(f"few-{n}", lengths[1], tokens=30, client="few")
    while not world.requests["few-1"].done:
        world.step()
        served = world.scheduler._served
        if all(any(other.client == name for other in world.scheduler.waiting) for name in ("many", "few")):
            assert abs(served["many"] - served["few"]) <= 2 * 2 * max(36, 68)
    many = sum(request.done for name, request in world.requests.items() if name.startswith("many"))
    assert many < 20, "two requests do not wait for twenty"
    world.finish(300)


def test_a_client_that_comes_back_brings_no_credit_and_keeps_its_debt() -> None:
    world = World(slots=1)
    world.submit("old", 5, tokens=2, client="returns")
    world.finish(5)
    for n in range(12):
        world.submit(f"works-{n}", 5, tokens=40, client="works")
    for _ in range(100):
        world.step()
    for n in range(6):
        world.submit(f"returns-{n}", 5, tokens=40, client="returns")
    order = []
    while not world.idle:
        order += [request.client for request, tokens in world.step().items() if tokens > 1]
    assert order[:4] in (["returns", "works"] * 2, ["works", "returns"] * 2), "they take turns from the first on"


@for_each("grid", [None, 32])
@for_each("prefill_tokens", [1, 7, 16, 40, 1000])
@for_each("windows", [(None,), (None, 20), (20,)])
def test_a_prompt_that_many_bring_together_is_computed_once(grid, prefill_tokens: int, windows) -> None:
    world = World(slots=8, prefill_tokens=prefill_tokens, grid=grid, windows=windows)
    for n in range(6):
        world.submit(str(n), 100, tokens=3, like=0)
    world.finish(400)
    known = 96  # whole pages, and a multiple of the grid
    assert world.computed == 100 + 5 * (100 - known) + 6 * 2
    found = [world.requests[str(n)].cached_tokens for n in range(6)]
    assert found == [0] + [known] * 5


def test_who_waits_for_another_keeps_its_slot_and_its_turn() -> None:
    world = World(slots=3, prefill_tokens=40)
    world.submit("first", 100, like=0, tokens=3)
    world.submit("follows", 100, like=0, tokens=3)
    world.submit("other", 60, tokens=3)
    world.submit("in line", 5)
    steps = [[(request.id, tokens) for request, tokens in world.step().items()] for _ in range(4)]
    assert steps[0] == [("first", 40)] and steps[1] == [("first", 40)]
    assert steps[2] == [("first", 20), ("other", 20)], "the rest of the budget is for others"
    assert world.running == ["first", "follows", "other"]
    assert steps[3] == [("first", 1), ("follows", 4), ("other", 36)]
    assert world.requests["follows"].ids and world.requests["in line"] in world.scheduler.waiting


@for_each("how", ["cancelled", "preempted"])
def test_when_the_first_one_leaves_the_next_continues_from_there(how: str) -> None:
    world = World(slots=2, prefill_tokens=48)
    world.submit("first", 100, like=0, priority=1)
    world.submit("follows", 70, like=0, priority=1)
    world.step()
    if how == "cancelled":
        world.release("first")
    else:
        world.submit("urgent", 47)
        world.scheduler.preempt(world.requests["first"])
    world.finish(10)
    assert world.requests["follows"].ids and world.requests["follows"].cached_tokens >= 48
    assert world.computed == 48 + (22 if how == "cancelled" else 47 + 52 + 6)


def test_an_urgent_one_does_not_wait_for_a_patient_one_that_begins_alike() -> None:
    world = World(slots=2, prefill_tokens=48)
    world.submit("patient", 100, like=0, priority=1)
    world.step()
    world.submit("urgent", 100, like=0, priority=0)
    steps = [[(request.id, tokens) for request, tokens in world.step().items()] for _ in range(2)]
    assert steps[0] == [("urgent", 48)], "48 were known"
    assert steps[1] == [("urgent", 4), ("patient", 4)], "and now 96 are, to both"


def test_nobody_waits_for_a_page_of_a_long_prompt() -> None:
    """What the chat template puts before every text is no reason to let a step go by."""
    world = World(slots=2, prefill_tokens=1000)
    for name, tail in (("one", 5000), ("other", 6000)):
        world.submit(name, 0)
        world.requests[name].prompt_ids = (*range(16), *range(tail, tail + 50))
    assert list(world.step().values()) == [66, 66]


def test_requests_of_other_adapters_and_sources_do_not_wait_for_each_other() -> None:
    world = World(slots=4, prefill_tokens=1000)
    kinds: list[dict[str, Any]] = [{}, {"adapter": "a"}, {"source_ids": (1, 2)}, {"source_ids": (1, 3)}]
    for n, options in enumerate(kinds):
        world.submit(str(n), 50, like=0, **options)
    assert list(world.step().values()) == [50] * 4


def test_guesses_that_were_right_are_paid_for() -> None:
    world = World(slots=1)
    for n in range(2):
        for client in ("lucky", "plain"):
            world.submit(f"{client}-{n}", 5, tokens=3, client=client)
    order = []
    while not world.idle:
        for request, tokens in world.step().items():
            if tokens > 1:
                order.append(request.client)
            if request.client == "lucky":
                world.scheduler.charge(request, 0, 8)
    assert order == ["lucky", "plain", "plain", "lucky"]


def test_clients_that_are_gone_are_forgotten_when_that_costs_nobody_anything() -> None:
    world = World(slots=1)
    for n in range(50):
        world.submit(str(n), 3, client=f"client {n}")
        world.finish(3)
    assert len(world.scheduler._served) == 1


def test_of_one_client_the_earlier_deadline_goes_first() -> None:
    world = World(slots=1)
    world.submit("none", 5)
    world.submit("late", 5, deadline=9.0)
    world.submit("soon", 5, deadline=2.0)
    assert [next(iter(world.step())).id for _ in range(3)] == ["soon", "late", "none"]


def test_a_scheduler_needs_slots_and_a_budget() -> None:
    cache = PagedCache((None,), 4, lambda *_: None)
    for slots, tokens in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="must be above 0"):
            Scheduler(cache, slots, tokens, lambda _: None, lambda _: None, lambda *_: None)


def test_an_urgent_prompt_does_not_wait_for_the_rest_of_a_patient_one() -> None:
    world = World(slots=2, prefill_tokens=20)
    world.submit("patient", 200, priority=1)
    world.step()
    world.submit("urgent", 30, tokens=2)
    assert [[(request.id, tokens) for request, tokens in world.step().items()] for _ in range(3)] == [
        [("urgent", 20)],
        [("urgent", 10), ("patient", 10)],
        [("urgent", 1), ("patient", 20)],
    ]
