"""Candidates are confirmed by their true similarity: against sets of words, pair by pair."""

from itertools import combinations

import numpy as np
from duplicate_cases import true_jaccard
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.duplicates.shingles import shingle_sets
from lmworks.data.duplicates.verifying import verify

TEXTS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(" ".join), min_size=2, max_size=7)


@given(TEXTS, st.floats(0.05, 1), st.integers(1, 5), st.data())
def test_the_pairs_are_those_that_are_similar_enough(texts, threshold, parts, data):
    everything = list(combinations(range(len(texts)), 2))
    chosen = data.draw(st.lists(st.sampled_from(everything), unique=True))
    candidates = [np.array(chosen[part::parts], np.int64).reshape(-1, 2) for part in range(parts)]
    verified = verify(candidates, lambda documents: shingle_sets([texts[d] for d in documents], 2), threshold)
    expected = {pair: value for pair in chosen if (value := true_jaccard(*(texts[d] for d in pair), 2)) >= threshold}
    assert verified.pairs.tolist() == sorted(list(pair) for pair in expected)
    assert verified.similarity.tolist() == [expected[tuple(pair)] for pair in verified.pairs.tolist()]
    assert verified.candidates == len(chosen)


def test_many_candidates_are_looked_at_a_batch_at_a_time():
    texts = [f"a b c d e {number % 7}" for number in range(300)]
    pairs = np.array(list(combinations(range(300), 2)))
    asked: list[int] = []

    def sets_of(documents):
        asked.append(len(documents))
        return shingle_sets([texts[d] for d in documents], 2)

    verified = verify([pairs], sets_of, 0.9)
    assert {tuple(pair) for pair in verified.pairs.tolist()} == {(a, b) for a, b in pairs.tolist() if a % 7 == b % 7}
    assert len(asked) == -(-len(pairs) // 8192)
