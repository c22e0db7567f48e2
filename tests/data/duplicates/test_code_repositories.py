"""Copied repositories: contained in one that stays, by definition, whatever the order and the size of a family."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.code_repositories import Copy, Repository, copied_repositories

FILES = st.sets(st.integers(1, 9), min_size=1, max_size=8)


def repository(name: str, files: set[int], **known) -> Repository:
    return Repository(name, np.array(sorted(files), np.uint64), **known)


@given(st.lists(st.tuples(FILES, st.booleans(), st.booleans()), max_size=8), st.integers(1, 9), st.randoms())
def test_copies_are_what_going_through_one_by_one_gives(cases, crowd, generator):
    repositories = [
        repository(f"r{number}", files, licence_known=licence, fork=fork)
        for number, (files, licence, fork) in enumerate(cases)
    ]
    shuffled = repositories.copy()
    generator.shuffle(shuffled)
    copies = copied_repositories(shuffled, share=0.7, least_files=2, crowd=crowd)
    assert copies == copied_repositories(repositories, share=0.7, least_files=2, crowd=crowd)
    files = {each.name: {*each.files.tolist()} for each in repositories}
    gone = {copy.copy for copy in copies}
    for copy in copies:
        both = files[copy.copy] & files[copy.original]
        assert copy.original not in gone
        assert (copy.share, copy.files) == (len(both) / len(files[copy.copy]), len(both))
        assert copy.original_share == len(both) / len(files[copy.original])
        assert copy.share >= 0.7 and copy.files >= 2
    if crowd >= len(cases):
        staying: list[str] = []
        for each in sorted(repositories, key=lambda each: each.priority):
            shared = [len(files[each.name] & files[other]) for other in staying]
            if not any(both >= 2 and both / len(files[each.name]) >= 0.7 for both in shared):
                staying.append(each.name)
        assert sorted(staying) == sorted(set(files) - gone)


def test_a_library_is_no_original_of_the_program_that_carries_it():
    library, program = {*range(10)}, {*range(500)}
    licensed = repository("library", library, licence_known=True)
    assert copied_repositories([licensed, repository("program", program)]) == ()
    [copy] = copied_repositories([repository("vendored", library), repository("program", program, licence_known=True)])
    assert copy == Copy("vendored", "program", 1.0, 0.02, 10)


def test_a_family_larger_than_a_crowd_has_one_original():
    forks = [repository(f"fork{n}", {*range(20), 100 + n}, fork=True) for n in range(30)]
    copies = copied_repositories([*forks, repository("origin", {*range(20)})], crowd=4)
    assert {copy.original for copy in copies} == {"origin"}
    assert len(copies) == 30


def test_a_family_whose_best_goes_is_looked_at_again():
    """`a` is the best owner of what the others share, and goes itself, as a copy of `z`, which they have little of."""
    common = {*range(10)}
    best = repository("a", common | {50, 51}, licence_known=True, created="2020-02-02")
    larger = repository("z", {*range(3, 60)}, licence_known=True, created="2020-01-01")
    others = [repository(f"c{n}", common | {100 + n}) for n in range(6)]
    copies = copied_repositories([best, larger, *others], share=0.75, crowd=2)
    assert {(copy.copy, copy.original) for copy in copies} == {("a", "z"), *((f"c{n}", "c0") for n in range(1, 6))}


def test_the_original_is_chosen_by_what_is_known_of_it():
    same = {*range(5)}
    order = [
        repository("licensed", same, licence_known=True, fork=True),
        repository("old", same, created="2001-01-01"),
        repository("new", same, created="2011-01-01"),
        repository("a", same),
        repository("b", same),
        repository("fork", same, fork=True, created="1999-01-01"),
    ]
    for start in range(5):
        copies = copied_repositories(order[start:][::-1])
        assert {copy.original for copy in copies} == {order[start].name}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="same name"):
        copied_repositories([repository("a", {1}), repository("a", {2})])
    with pytest.raises(ValueError, match="share"):
        copied_repositories([], share=0)
    assert copied_repositories([]) == ()
