"""Of each group of alike documents the best one that is there stays; priorities, by definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lmworks.corpus.dedup.kept_duplicates import best_of_groups, linked, priority

NUMBER = 9


@given(
    st.lists(st.tuples(st.integers(0, NUMBER - 1), st.integers(0, NUMBER - 1)), max_size=12),
    st.permutations(range(NUMBER)),
    st.lists(st.booleans(), min_size=NUMBER, max_size=NUMBER),
)
def test_the_best_of_a_group_stays(pairs, ranks, there):
    rank = np.array(ranks)
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    kept = best_of_groups(linked(first, second, NUMBER), rank, np.array(there)).tolist()
    groups = [{number} for number in range(NUMBER)]
    for one, other in pairs:
        joined = groups[one] | groups[other]
        for number in joined:
            groups[number] = joined
    for number, other in enumerate(kept):
        others = [each for each in groups[number] if there[each]]
        assert other == (min(others, key=lambda each: rank[each]) if there[number] else number)


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


@given(st.lists(st.tuples(st.integers(0, NUMBER - 1), st.integers(0, NUMBER - 1)), max_size=12))
def test_groups_are_connected_components(pairs):
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(NUMBER, NUMBER))
    components = connected_components(graph, directed=False)[1].tolist()
    assert linked(first, second, NUMBER).tolist() == [components.index(each) for each in components]


def test_long_chains_are_linked_in_few_rounds():
    order = np.random.default_rng(0).permutation(300_000)
    assert not linked(order[:-1], order[1:], len(order)).any()
    assert linked(np.empty(0, np.int64), np.empty(0, np.int64), 3).tolist() == [0, 1, 2]
