"""Character n-grams, against fastText's as gensim has them."""

import numpy as np
import pytest
from gensim.models.fasttext_inner import compute_ngrams_bytes, ft_hash_bytes
from hypothesis import given
from hypothesis import strategies as st

from lmworks.embeddings.config import Subwords, WordVectorsConfig
from lmworks.embeddings.subwords import bucket_of, ngram_buckets, ngrams_of
from lmworks.embeddings.word2vec import train_word_vectors

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(WORDS, st.integers(1, 4), st.integers(0, 3))
def test_ngrams_and_their_hashes_are_those_of_gensim(word, shortest, more):
    subwords = Subwords(shortest, shortest + more, 1000)
    theirs = compute_ngrams_bytes(word, subwords.shortest, subwords.longest)
    ours = ngrams_of(word, subwords)
    assert sorted(ngram.encode() for ngram in ours) == sorted(theirs)
    assert [bucket_of(ngram, 1000) for ngram in ours] == [ft_hash_bytes(ngram.encode()) % 1000 for ngram in ours]


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 3))
def test_compiled_buckets_are_those_of_the_definition(words, shortest, more):
    subwords = Subwords(shortest, shortest + more, 977)
    buckets, ends = ngram_buckets(words, subwords)
    wanted = [[bucket_of(ngram, 977) for ngram in ngrams_of(word, subwords)] for word in words]
    assert buckets.tolist() == [bucket for each in wanted for bucket in each]
    assert ends.tolist() == np.cumsum([len(each) for each in wanted]).tolist()


def test_the_definition_runs_alone(uncompiled):
    buckets, ends = ngram_buckets(["ab"], Subwords(3, 4, 1 << 30))
    assert buckets.tolist() == [bucket_of(ngram, 1 << 30) for ngram in ("<ab", "<ab>", "ab>")] and ends.tolist() == [3]


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
