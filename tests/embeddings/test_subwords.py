"""Character n-grams, against fastText's as gensim has them."""

import numpy as np
import pytest
from gensim.models.fasttext_inner import compute_ngrams_bytes, ft_hash_bytes
from hypothesis import given
from hypothesis import strategies as st

from lmworks.embeddings.config import Subwords, WordVectorsConfig
from lmworks.embeddings.subwords import ngram_buckets
from lmworks.embeddings.word2vec import train_word_vectors

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def ngrams_of(word: str, subwords: Subwords) -> list[str]:
    """The definition: in the order of their beginnings and then of their lengths; < or > alone is none."""
    marked = f"<{word}>"
    return [
        marked[start : start + length]
        for start in range(len(marked))
        for length in range(subwords.shortest, min(subwords.longest, len(marked) - start) + 1)
        if length > 1 or 0 < start < len(marked) - 1
    ]


def bucket_of(ngram: str, buckets: int) -> int:
    return ft_hash_bytes(ngram.encode()) % buckets


@given(WORDS, st.integers(1, 4), st.integers(0, 3))
def test_ngrams_are_those_of_gensim(word, shortest, more):
    subwords = Subwords(shortest, shortest + more, 1000)
    theirs = compute_ngrams_bytes(word, subwords.shortest, subwords.longest)
    assert sorted(ngram.encode() for ngram in ngrams_of(word, subwords)) == sorted(theirs)


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 3))
def test_buckets_are_those_of_the_ngrams(words, shortest, more):
    subwords = Subwords(shortest, shortest + more, 977)
    buckets, ends = ngram_buckets(words, subwords)
    expected = [[bucket_of(ngram, 977) for ngram in ngrams_of(word, subwords)] for word in words]
    assert buckets.tolist() == [bucket for of_word in expected for bucket in of_word]
    assert ends.tolist() == np.cumsum([len(of_word) for of_word in expected]).tolist()


def test_a_new_word_is_the_mean_of_the_ngrams_that_were_learnt(sentences):
    config = WordVectorsConfig(dimensions=8, epochs=1, subwords=Subwords(2, 3))
    found = train_word_vectors(sentences, config)
    assert found.ngrams is not None
    rows = {bucket: row for row, bucket in enumerate(found.ngrams.buckets.tolist())}
    known = [rows[bucket_of(ngram, 2_000_000)] for ngram in ("<w", "<w5", "w5", "9>")]  # of w59x9, the others are new
    assert "w59x9" not in found
    wanted = ngrams_of("w59x9", Subwords(2, 3))
    present = [ngram for ngram in wanted if bucket_of(ngram, 2_000_000) in rows]
    assert {rows[bucket_of(ngram, 2_000_000)] for ngram in present} >= set(known)
    expected = found.ngrams.vectors[[rows[bucket_of(ngram, 2_000_000)] for ngram in present]].mean(axis=0)
    np.testing.assert_allclose(found.vector("w59x9"), expected, atol=1e-7)
    assert len(found.neighbours("w59x9", 3)) == 3
    with pytest.raises(KeyError, match="nor is any of its n-grams"):
        found.vector("ZZZ")
