"""Neighbours and analogies, against gensim on the same vectors."""

import numpy as np
import pytest
from gensim.models import KeyedVectors

from kit.tables import for_each
from lmworks.embeddings.word_vectors import WordVectors, unit

WORDS = tuple(f"w{number}" for number in range(200))


@pytest.fixture(scope="module")
def ours() -> WordVectors:
    return WordVectors(WORDS, np.random.default_rng(5).normal(size=(200, 24)).astype(np.float32))


@pytest.fixture(scope="module")
def theirs(ours) -> KeyedVectors:
    made = KeyedVectors(24)
    made.add_vectors(list(WORDS), ours.vectors)
    return made


def assert_same(found, expected):
    assert [each.word for each in found] == [word for word, _ in expected]
    np.testing.assert_allclose([each.score for each in found], [score for _, score in expected], rtol=2e-5)


@for_each("restrict", [None, 50])
def test_neighbours(ours, theirs, restrict):
    for word in WORDS[:60]:
        assert_same(ours.neighbours(word, 7, restrict), theirs.most_similar(word, topn=7, restrict_vocab=restrict))


@for_each("restrict", [None, 50])
def test_analogies(ours, theirs, restrict):
    for a, b, c in np.random.default_rng(1).choice(WORDS, (60, 3)).tolist():
        expected = theirs.most_similar(positive=[b, c], negative=[a], topn=5, restrict_vocab=restrict)
        assert_same(ours.analogy(a, b, c, number=5, restrict=restrict), expected)
        expected = theirs.most_similar_cosmul(positive=[b, c], negative=[a], topn=200)  # which ignores restrict_vocab
        expected = [(word, score) for word, score in expected if restrict is None or int(word[1:]) < restrict]
        assert_same(ours.analogy(a, b, c, "multiply", number=5, restrict=restrict), expected[:5])


def test_similarity(ours, theirs):
    for first, second in zip(WORDS[::7], WORDS[::-7], strict=False):
        assert ours.similarity(first, second) == pytest.approx(float(theirs.similarity(first, second)), abs=1e-6)


def test_nearest_to_a_vector_finds_its_word_first(ours):
    assert ours.nearest(3 * ours.vectors[17], 1)[0].word == "w17"
    assert ours.nearest(ours.vectors[17], 1)[0].score == pytest.approx(1, abs=1e-6)


def test_equal_scores_come_in_the_order_of_the_words():
    vectors = WordVectors(("a", "b", "c", "d"), np.float32([[1, 0], [0, 1], [0, 2], [0, 3]]))
    assert [each.word for each in vectors.neighbours("a", 3)] == ["b", "c", "d"]


def test_asked_for_more_than_there_is(ours):
    assert len(ours.neighbours("w0", 1000)) == 199
    assert ours.neighbours("w0", 5, restrict=1) == []


def test_a_vector_of_zeros_is_near_to_nothing():
    vectors = WordVectors(("a", "b", "c"), np.float32([[0, 0], [1, 0], [-1, 0]]))
    assert [each.score for each in vectors.neighbours("a", 2)] == [0, 0]
    assert unit(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_what_is_not_there_is_said(ours):
    with pytest.raises(KeyError, match="'nowhere' is not among the 200 words; look for another spelling"):
        ours.neighbours("nowhere")
    with pytest.raises(KeyError, match=r"'W17' is not among the 200 words; did you mean 'w17', .*\?"):
        ours.neighbours("W17")
    tokens = WordVectors((" king", "dog"), np.eye(2, dtype=np.float32))
    with pytest.raises(KeyError, match="did you mean ' king'"):
        tokens.neighbours("king")
    with pytest.raises(ValueError, match="add, multiply"):
        ours.analogy("w1", "w2", "w3", "divide")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one word"):
        ours.combined([], ["w1"])
    with pytest.raises(ValueError, match="number must be 1 or more"):
        ours.neighbours("w1", 0)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="float32"):
        WordVectors(("a",), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="'b' is there more than once"):
        WordVectors(("b", "a", "b"), np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="counts must be"):
        WordVectors(("a", "b"), np.zeros((2, 2), np.float32), np.zeros(3, np.int64))
