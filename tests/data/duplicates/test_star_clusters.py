"""Stars: who goes has a twin that stays and was compared, and nobody who stays is similar to another, by definition."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.clusters import Standing, by_priority, star_clusters
from lmworks.data.duplicates.verifying import Verified

THRESHOLD = 0.5


@st.composite
def collections(draw):
    """A random symmetric similarity, which of the pairs were candidates, and crowds."""
    number = draw(st.integers(1, 9))
    upper = draw(st.lists(st.floats(0, 1), min_size=number * number, max_size=number * number))
    similarity = np.triu(np.array(upper).reshape(number, number), 1)
    candidates = draw(st.sets(st.tuples(st.integers(0, number - 1), st.integers(0, number - 1)), max_size=20))
    crowds = draw(st.lists(st.sets(st.integers(0, number - 1), min_size=1), max_size=3))
    pairs = sorted({(min(pair), max(pair)) for pair in candidates if pair[0] != pair[1]})
    return similarity + similarity.T, pairs, [np.array(sorted(crowd)) for crowd in crowds]


def verified(similarity: np.ndarray, pairs: list[tuple[int, int]]) -> Verified:
    near = [pair for pair in pairs if similarity[pair] >= THRESHOLD]
    return Verified(np.array(near, np.int64).reshape(-1, 2), np.array([similarity[pair] for pair in near]), len(pairs))


@given(collections())
def test_those_who_stay_are_what_going_through_one_by_one_gives(case):
    similarity, pairs, crowds = case
    together = {*pairs} | {(int(a), int(b)) for crowd in crowds for a in crowd for b in crowd if a < b}
    staying: list[int] = []
    for document in range(len(similarity)):
        if not any((s, document) in together and similarity[s, document] >= THRESHOLD for s in staying):
            staying.append(document)
    stars = star_clusters(
        len(similarity), verified(similarity, pairs), crowds, lambda a, others: similarity[a, others], THRESHOLD
    )
    assert np.flatnonzero(stars.kept == np.arange(len(similarity))).tolist() == staying
    assert stars.uncompared == 0
    for document, kept in enumerate(stars.kept.tolist()):
        assert kept in staying
        if document != kept:
            assert kept < document and (kept, document) in together
            assert stars.similarity[document] == similarity[kept, document] >= THRESHOLD
        else:
            assert stars.similarity[document] == 1


def test_a_chain_does_not_take_its_far_end_along():
    """0 - 1 - 2 - 3: each like the next only. A connected component would keep one of the four."""
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    stars = star_clusters(4, Verified(pairs, np.full(3, 0.9)))
    assert stars.kept.tolist() == [0, 0, 2, 2]


def test_what_was_not_compared_is_counted():
    stars = star_clusters(
        6, verified(np.zeros((6, 6)), []), [np.arange(6)], lambda a, others: np.zeros(len(others)), 0.5, most_compared=2
    )
    assert stars.kept.tolist() == list(range(6))
    assert stars.uncompared == 0 + 0 + 0 + 1 + 2 + 3


def test_a_crowd_of_copies_is_compared_with_its_first_alone():
    compared: list[tuple[int, list[int]]] = []

    def similarity(document: int, others: Sequence[int]) -> np.ndarray:
        compared.append((document, [*others]))
        return np.ones(len(others))

    stars = star_clusters(500, verified(np.zeros((1, 1)), []), [np.arange(500)] * 3, similarity, 0.8)
    assert set(stars.kept.tolist()) == {0}
    assert compared == [(document, [0]) for document in range(1, 500)]


def test_priority_is_licence_then_quality_then_length_then_id():
    standings = [
        Standing("long", length=1000),
        Standing("short", length=10),
        Standing("b"),
        Standing("a"),
        Standing("good", quality=0.9),
        Standing("bad", quality=-3.0),
        Standing("licensed", licence_known=True),
    ]
    order = [standings[place].id for place in by_priority(standings)]
    assert order == ["licensed", "good", "bad", "long", "short", "a", "b"]


def test_what_decides_nothing_is_refused():
    with pytest.raises(ValueError, match="same id"):
        by_priority([Standing("a"), Standing("a", length=3)])
    with pytest.raises(ValueError, match="not a number"):
        Standing("a", quality=float("nan"))
    with pytest.raises(ValueError, match="similarity"):
        star_clusters(2, verified(np.zeros((2, 2)), []), [np.arange(2)])
