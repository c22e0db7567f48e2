"""Packing: every token once, nothing cut that fits, and in bulk what best-fit-decreasing does one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.data.best_fit_packing import Plan, best_fit_decreasing, plan_sequences

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=60).filter(any)


def places_of(plan: Plan, sequence: int) -> list[tuple[int, int]]:
    """(document, token in it) of each place of a sequence that holds one."""
    part = slice(plan.offsets[sequence], plan.offsets[sequence + 1])
    segments = (plan.documents[part].tolist(), plan.starts[part].tolist(), plan.lengths[part].tolist())
    return [(owner, start + k) for owner, start, size in zip(*segments, strict=True) for k in range(size)]


def best_fit_one_by_one(sizes: list[int], capacity: int) -> list[int]:
    """The room left in each bin, by the definition: the fullest bin that has room for the item, or a new one."""
    rooms: list[int] = []
    for size in sizes:
        fitting = [(room, index) for index, room in enumerate(rooms) if room >= size]
        if not fitting:
            rooms.append(capacity)
        index = min(fitting)[1] if fitting else len(rooms) - 1
        rooms[index] -= size
    return rooms


@for_each("mode", ["pack", "concatenate"])
@given(LENGTHS, st.integers(2, 33), st.integers(0, 2**63 - 1))
def test_every_token_of_every_document_stands_in_one_place(mode, lengths, length, seed):
    plan = plan_sequences(np.array(lengths), length, mode, seed)
    stream = [(document, token) for document, size in enumerate(lengths) for token in range(size)]
    rows = [places_of(plan, sequence) for sequence in range(plan.sequences)]
    assert sorted(place for row in rows for place in row) == stream
    assert max(map(len, rows)) <= length and plan.lengths.min() > 0
    assert (plan.tokens, plan.padding) == (len(stream), plan.sequences * length - len(stream))
    assert plan.split_documents == (np.bincount(plan.documents) > 1).sum()
    if mode == "concatenate":
        assert rows == [stream[start : start + length] for start in range(0, len(stream), length)]


@given(LENGTHS, st.integers(2, 33), st.integers(0, 100))
def test_packing_cuts_only_what_is_longer_than_a_sequence(lengths, length, seed):
    plan = plan_sequences(np.array(lengths), length, "pack", seed)
    for document, size in enumerate(lengths):
        here = plan.documents == document
        pieces = sorted(zip(plan.starts[here].tolist(), plan.lengths[here].tolist(), strict=True))
        assert pieces == [(start, min(length, size - start)) for start in range(0, size, length)]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), max_size=150))))
def test_bulk_packing_is_best_fit_decreasing(case):
    capacity, sizes = case
    sizes = sorted(sizes, reverse=True)
    bins = best_fit_decreasing(np.array(sizes, np.int64), capacity)
    rooms = best_fit_one_by_one(sizes, capacity)
    used = np.bincount(bins, np.array(sizes, float), minlength=len(rooms)) if sizes else []
    assert sorted(capacity - int(room) for room in used) == sorted(rooms)


def test_documents_of_one_length_are_not_packed_in_the_order_of_the_corpus():
    plan = plan_sequences(np.full(4000, 8), 16, "pack", 0)
    neighbours = (np.abs(np.diff(plan.documents.reshape(-1, 2), axis=1)) == 1).sum()
    assert neighbours < 10  # of 2,000 random pairs, one is of neighbours on average
