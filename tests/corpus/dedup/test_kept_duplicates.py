"""Stars: who goes has a kept duplicate that was compared, and nobody who stays is similar to another, by definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.dedup import kept_duplicates
from lmworks.corpus.dedup.kept_duplicates import Kept, priority
from lmworks.corpus.dedup.match_tables import LargeBuckets, Pairs

THRESHOLD = 0.5


def stars(rank, pairs, large_buckets=(), similarity=lambda document, others: np.zeros(len(others)), there=None) -> Kept:
    there = np.ones(len(rank), bool) if there is None else there
    return kept_duplicates.kept_duplicates(
        pairs, LargeBuckets(large_buckets, THRESHOLD, 1), THRESHOLD, rank, there, similarity
    )


@st.composite
def collections(draw):
    """Ranks, a random symmetric similarity, candidate pairs, large buckets, and which documents are there."""
    number = draw(st.integers(1, 9))
    upper = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=number * number, max_size=number * number))
    similarity = np.triu(np.array(upper).reshape(number, number), 1)
    candidates = draw(st.sets(st.tuples(st.integers(0, number - 1), st.integers(0, number - 1)), max_size=20))
    large_buckets = draw(st.lists(st.sets(st.integers(0, number - 1), min_size=1), max_size=3))
    pairs = sorted({(min(pair), max(pair)) for pair in candidates if pair[0] != pair[1]})
    rank = np.array(draw(st.permutations(range(number))))
    there = np.array(draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    return rank, similarity + similarity.T, pairs, [np.array(sorted(members)) for members in large_buckets], there


@given(collections())
def test_those_who_stay_are_what_going_through_one_by_one_gives(case):
    rank, similarity, pairs, large_buckets, there = case
    together = {*pairs} | {(int(a), int(b)) for members in large_buckets for a in members for b in members if a < b}
    staying: list[int] = []
    for document in (each for each in np.argsort(rank).tolist() if there[each]):
        alike = [other for other in staying if similarity[other, document] >= THRESHOLD]
        if not any((min(other, document), max(other, document)) in together for other in alike):
            staying.append(document)
    enough = [pair for pair in pairs if similarity[pair] >= THRESHOLD]
    first, second = np.array(enough, np.int64).reshape(-1, 2).T
    found = Pairs(first, second, similarity[first, second])
    kept = stars(rank, found, large_buckets, lambda a, others: similarity[a, others], there)
    assert np.flatnonzero(there & (kept.document == np.arange(len(rank)))).tolist() == sorted(staying)
    assert kept.uncompared == 0
    for document, other in enumerate(kept.document.tolist()):
        assert other in staying or not there[document]
        if document != other:
            assert rank[other] < rank[document] and (min(other, document), max(other, document)) in together
            assert kept.similarity[document] == similarity[other, document] >= THRESHOLD
        else:
            assert kept.similarity[document] == 1


def test_what_was_not_compared_is_counted(monkeypatch):
    monkeypatch.setattr(kept_duplicates, "MOST_COMPARED", 2)
    nothing = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    kept = stars(np.arange(6), nothing, [np.arange(6)])
    assert kept.document.tolist() == list(range(6))
    assert kept.uncompared == 0 + 0 + 0 + 1 + 2 + 3


ROWS = st.tuples(st.booleans(), st.sampled_from([np.nan, -3.0, 0.9]), st.integers(1, 2))


@given(st.lists(ROWS, max_size=8), st.randoms(use_true_random=False))
def test_priority_is_licence_then_quality_then_length_then_uri(rows, generator):
    """Sorted by one after the other, the least first; a quality that was not measured is the worst."""
    documents = [(*row, f"u{number}") for number, row in enumerate(rows)]
    generator.shuffle(documents)
    expected = sorted(documents, key=lambda row: row[3])
    expected.sort(key=lambda row: row[2], reverse=True)
    expected.sort(key=lambda row: -np.inf if np.isnan(row[1]) else row[1], reverse=True)
    expected.sort(key=lambda row: row[0], reverse=True)
    columns = [np.array([row[place] for row in documents]) for place in range(3)]
    rank = priority(*columns, [row[3] for row in documents])
    assert [documents[place][3] for place in np.argsort(rank)] == [row[3] for row in expected]
