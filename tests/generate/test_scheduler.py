"""The scheduler against its contract, on arbitrary arrivals, lengths and cancellations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.generate.scheduler import Scheduler

# (step of arrival, prompt length, tokens wanted, step at which it is cancelled or None)
_REQUESTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 50), st.integers(1, 6), st.none() | st.integers(0, 20)), max_size=15
)


@settings(max_examples=200)
@given(_REQUESTS, st.integers(1, 5), st.integers(1, 100))
def test_slots_are_never_shared_and_every_request_finishes(requests: list, slots: int, prefill_tokens: int) -> None:
    scheduler = Scheduler(slots, prefill_tokens)
    left: dict[str, int] = {}  # tokens still wanted, of requests that have a slot
    slot_of: dict[str, int] = {}
    done: set[str] = set()
    entered: list[str] = []
    # Each step but the last serves somebody, so work and arrivals bound the number of steps.
    for step in range(30 + 2 * sum(tokens + 1 for _, _, tokens, _ in requests)):
        for number, (arrival, length, _, cancelled) in enumerate(requests):
            if arrival == step:
                scheduler.submit(str(number), length)
            if cancelled == step and arrival <= step:
                scheduler.release(str(number))
                left.pop(str(number), None)
                done.add(str(number))
        work = scheduler.next()
        if work is None:
            assert scheduler.idle
            continue
        assert len(set(work.slots.values())) == len(work.slots)
        assert all(0 <= slot < slots for slot in work.slots.values())
        if work.kind == "prefill":
            lengths = [requests[int(request)][1] for request in work.slots]
            assert len(lengths) == 1 or sum(lengths) <= prefill_tokens
            assert not set(work.slots.values()) & {slot_of[request] for request in left}, "took a slot that is in use"
            entered += work.slots
            for request, slot in work.slots.items():
                slot_of[request], left[request] = slot, requests[int(request)][2]
        else:
            assert work.slots == {request: slot_of[request] for request in left}, "decode serves all that run"
        for request in work.slots:
            left[request] -= 1
            if left[request] == 0:
                del left[request]
                done.add(request)
                scheduler.release(request)
    assert done == {str(number) for number in range(len(requests))}
    order = [(requests[int(request)][0], int(request)) for request in entered]
    assert order == sorted(order), "requests enter in the order they came"


def test_a_stream_of_arrivals_does_not_starve_those_that_run() -> None:
    scheduler = Scheduler(slots=2, prefill_tokens=100)
    scheduler.submit("long", 5)
    decoded = 0
    for step in range(40):
        scheduler.submit(f"short-{step}", 5)  # wants one token: finishes with its prefill, and its slot is free again
        work = scheduler.next()
        assert work is not None
        decoded += work.kind == "decode" and "long" in work.slots
        for request in work.slots:
            if request != "long":
                scheduler.release(request)
    assert decoded >= 19, "every second step decodes"


def test_an_id_in_use_is_refused_until_it_is_released() -> None:
    scheduler = Scheduler(1, 10)
    scheduler.submit("a", 1)
    with pytest.raises(ValueError, match="in use"):
        scheduler.submit("a", 1)
    scheduler.next()
    with pytest.raises(ValueError, match="in use"):
        scheduler.submit("a", 1)
    scheduler.release("a")
    scheduler.submit("a", 1)
