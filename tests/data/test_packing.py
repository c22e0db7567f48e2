"""Packing: every token once, nothing cut that fits, and in bulk what best-fit-decreasing does one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.best_fit_packing import Plan, best_fit_decreasing, plan_sequences

LENGTHS = st.lists(st.integers(0, 70), min_size=1, max_size=60).filter(any)
MODES = st.sampled_from(["pack", "concatenate"])


def segments_of(plan: Plan, sequence: int) -> list[tuple[int, int, int]]:
    """(document, start, length) of each segment of a sequence."""
    part = slice(plan.offsets[sequence], plan.offsets[sequence + 1])
    return list(
        zip(plan.documents[part].tolist(), plan.starts[part].tolist(), plan.lengths[part].tolist(), strict=True)
    )


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


@given(LENGTHS, st.integers(2, 33), MODES, st.integers(0, 2**63 - 1))
def test_every_token_of_every_document_stands_in_one_place(lengths, length, mode, seed):
    plan = plan_sequences(np.array(lengths), length, mode, seed)
    places = [
        (document, start + offset)
        for sequence in range(plan.sequences)
        for document, start, size in segments_of(plan, sequence)
        for offset in range(size)
    ]
    assert sorted(places) == [(document, token) for document, size in enumerate(lengths) for token in range(size)]
    for sequence in range(plan.sequences):
        sizes = [size for _, _, size in segments_of(plan, sequence)]
        assert min(sizes) > 0
        assert sum(sizes) <= length
    assert plan.tokens == sum(lengths)
    assert plan.padding == plan.sequences * length - sum(lengths)
    pieces = [sum(document == owner for owner in plan.documents.tolist()) for document in range(len(lengths))]
    assert plan.split_documents == sum(count > 1 for count in pieces)


@given(LENGTHS, st.integers(2, 33), st.integers(0, 100))
def test_packing_cuts_only_what_is_longer_than_a_sequence(lengths, length, seed):
    plan = plan_sequences(np.array(lengths), length, "pack", seed)
    for document, size in enumerate(lengths):
        here = plan.documents == document
        pieces = sorted(zip(plan.starts[here].tolist(), plan.lengths[here].tolist(), strict=True))
        assert pieces == [(start, min(length, size - start)) for start in range(0, size, length)]
    owners = [document for i in range(plan.sequences) for document in {d for d, _, _ in segments_of(plan, i)}]
    assert len(owners) == len(plan.documents)  # no two pieces of a document in one sequence


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), max_size=150))))
def test_bulk_packing_is_best_fit_decreasing(case):
    capacity, sizes = case
    sizes = sorted(sizes, reverse=True)
    bins = best_fit_decreasing(np.array(sizes, np.int64), capacity)
    rooms = best_fit_one_by_one(sizes, capacity)
    used = np.bincount(bins, np.array(sizes, float), minlength=len(rooms)) if sizes else []
    assert sorted(capacity - int(room) for room in used) == sorted(rooms)


@given(LENGTHS, st.integers(2, 33))
def test_concatenation_is_the_stream_cut_into_equal_parts(lengths, length):
    plan = plan_sequences(np.array(lengths), length, "concatenate")
    stream = [(document, token) for document, size in enumerate(lengths) for token in range(size)]
    for sequence in range(plan.sequences):
        found = [
            (document, start + offset)
            for document, start, size in segments_of(plan, sequence)
            for offset in range(size)
        ]
        assert found == stream[sequence * length : (sequence + 1) * length]
    assert plan.sequences == -(-len(stream) // length)


def test_a_seed_changes_what_is_packed_with_what_and_nothing_else():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    first, again, other = (plan_sequences(lengths, 128, "pack", seed) for seed in (1, 1, 2))
    assert (first.documents == again.documents).all()
    assert (first.documents != other.documents).any()
    assert (first.lengths == other.lengths).all()
    assert (first.offsets == other.offsets).all()


def test_documents_of_one_length_are_not_packed_in_the_order_of_the_corpus():
    plan = plan_sequences(np.full(4000, 8), 16, "pack", 0)
    pairs = plan.documents.reshape(-1, 2)
    neighbours = (np.abs(np.diff(pairs, axis=1)) == 1).sum()
    assert neighbours < 10  # of 2,000 random pairs, one is of neighbours on average


def test_a_web_corpus_needs_hardly_any_padding():
    """Lengths like those of web pages, log-normal with a median of 330 tokens."""
    lengths = np.maximum(np.random.default_rng(0).lognormal(5.8, 1.2, 100_000).astype(int), 1)
    packed, cut = (plan_sequences(lengths, 2048, mode) for mode in ("pack", "concatenate"))
    assert packed.tokens == cut.tokens == lengths.sum()
    assert packed.padding < 1e-3 * packed.tokens
    assert packed.split_documents == (lengths > 2048).sum() < cut.split_documents / 3


def test_nothing_to_plan_is_refused():
    for lengths in ([], [0, 0]):
        with pytest.raises(ValueError, match="no token"):
            plan_sequences(np.array(lengths, np.int64), 8, "pack")
    with pytest.raises(ValueError, match="at least two"):
        plan_sequences(np.array([4]), 1, "pack")
