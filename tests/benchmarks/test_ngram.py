"""N-gram models beside their formulas, written out with dictionaries, and as distributions."""

from collections import Counter

import numpy as np
import pytest
from contenders.ngram import Between, KneserNey

from kit.tables import for_each

VOCABULARY = 5
TEXTS = [np.random.default_rng(seed).choice(VOCABULARY - 1, 40, p=[0.5, 0.25, 0.15, 0.1]) for seed in range(4)]
CONTEXTS = [(a, b) for a in range(VOCABULARY + 1) for b in range(VOCABULARY + 1)]


def kneser_ney(counts, word, context):
    """One order after the other, as the formula says; `counts` are those of the orders from 1 on."""
    if not counts:
        return 1 / VOCABULARY
    *shorter, grams = counts
    values = Counter(grams.values())
    discount = values[1] / (values[1] + 2 * values[2]) if values[1] else 0.5
    after = {gram[-1]: count for gram, count in grams.items() if gram[:-1] == context}
    below = kneser_ney(shorter, word, context[1:])
    if not after:
        return below
    kept = max(after.get(word, 0) - discount, 0)
    return (kept + discount * len(after) * below) / sum(after.values())


def counts_of(texts, order):
    highest = Counter()
    for text in texts:
        padded = [VOCABULARY] * (order - 1) + text.tolist()
        highest.update(tuple(padded[i : i + order]) for i in range(len(text)))
    counts = [highest]
    for _ in range(order - 1):
        counts.insert(0, Counter(gram[1:] for gram in counts[0]))  # of the n-grams that differ
    return counts


@for_each("order", [1, 2, 3])
def test_kneser_ney_is_its_formula_and_a_distribution(order) -> None:
    model, counts = KneserNey(TEXTS, VOCABULARY, order), counts_of(TEXTS, order)
    for context in {context[len(context) - order + 1 :] for context in CONTEXTS}:
        found = model.probabilities(np.tile(np.array(context, np.int64), (VOCABULARY, 1)), np.arange(VOCABULARY))
        assert found == pytest.approx([kneser_ney(counts, word, context) for word in range(VOCABULARY)], rel=1e-12)
        assert found.sum() == pytest.approx(1, rel=1e-12)


def test_each_token_of_a_text_has_those_before_it_as_its_context() -> None:
    model, counts = KneserNey(TEXTS, VOCABULARY), counts_of(TEXTS, 3)
    text = np.array([0, 4, 1, 1, 0])  # 4 was never seen
    (found,) = model.of_texts([text])
    padded = [VOCABULARY, VOCABULARY, *text.tolist()]
    assert found == pytest.approx(
        [kneser_ney(counts, padded[i + 2], tuple(padded[i : i + 2])) for i in range(5)], rel=1e-12
    )


def test_a_token_from_both_neighbours_is_its_formula_and_a_distribution() -> None:
    model = Between(TEXTS, VOCABULARY)
    bigrams = counts_of(TEXTS, 2)
    triples = Counter(tuple(text[i : i + 3].tolist()) for text in TEXTS for i in range(len(text) - 2))
    values = Counter(triples.values())
    discount = values[1] / (values[1] + 2 * values[2])
    for left in range(VOCABULARY):
        for right in range(VOCABULARY):
            words = range(VOCABULARY)
            chain = [kneser_ney(bigrams, w, (left,)) * kneser_ney(bigrams, right, (w,)) for w in words]
            seen = [triples[left, w, right] for w in words]
            expected = np.array(chain) / sum(chain)
            if sum(seen):
                kept = np.maximum(np.array(seen) - discount, 0)
                expected = (kept + discount * np.count_nonzero(seen) * expected) / sum(seen)
            assert model.from_both(np.array([left]), np.array([right]))[0] == pytest.approx(expected, rel=1e-12)
    left, right = np.array([0, -1, 2, -1, VOCABULARY]), np.array([1, 1, -1, -1, 0])
    for kind in (model.unigram, model.from_left, model.from_right, model.from_both):
        assert kind(left, right).sum(axis=1) == pytest.approx(np.ones(5), rel=1e-12)
    assert model.from_both(left, right)[1] == pytest.approx(model.from_right(left, right)[1])


def test_ids_that_do_not_fit_into_a_key_are_refused() -> None:
    with pytest.raises(ValueError, match="5-grams of 50,000 tokens do not fit"):
        KneserNey(TEXTS, 50_000, 5)
