"""n-gram models: probabilities against dictionaries of tuples, which add up to 1, and what they are for."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.artefact import hash_fraction, hash_json
from lmworks.corpus.taggers.config import NgramConfig
from lmworks.corpus.taggers.ngram_model import (
    SUGGESTED,
    learn_ngrams,
    model_tokens,
    smooth,
    text_grams,
    train_ngrams,
)
from lmworks.records import Scored

SYMBOLS, BITS = 5, 3  # 0 is the beginning
SEQUENCES = st.lists(st.lists(st.integers(1, SYMBOLS - 1), max_size=12), min_size=1, max_size=6).filter(any)


class Oracle:
    """The definition, in dictionaries of tuples, oldest symbol first."""

    def __init__(self, texts: list[list[int]], order: int) -> None:
        self.levels: dict[int, Counter[tuple[int, ...]]] = {order: Counter()}
        for text in texts:
            padded = [0] * (order - 1) + text
            self.levels[order].update(tuple(padded[at : at + order]) for at in range(len(text)))
        for length in range(order - 1, 0, -1):
            self.levels[length] = Counter(gram[1:] for gram in self.levels[length + 1])

    def discount(self, length: int) -> float:
        numbers = list(self.levels[length].values())
        once, twice = numbers.count(1), numbers.count(2)
        return min(max(once / (once + 2 * twice) if once else 0, 0.1), 0.9)

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        length = len(context) + 1
        shorter = self.probability(context[1:], symbol) if context else 1 / (SYMBOLS - 1)
        seen = {gram[-1]: n for gram, n in self.levels[length].items() if gram[:-1] == context}
        if not seen:
            return shorter
        kept = {each: (n - self.discount(length)) / sum(seen.values()) for each, n in seen.items()}
        return kept.get(symbol, 0) + (1 - sum(kept.values())) * shorter


def log_probabilities(learned: list[list[int]], order: int, asked: list[list[int]]) -> np.ndarray:
    """Of each symbol that is asked for, under the model of other texts."""
    arrays = [[np.array(text, np.int64) for text in texts] for texts in (learned, asked)]
    keys, is_start = text_grams(arrays[0], order, BITS)
    tables = smooth(*np.unique(keys[~is_start], return_counts=True), order, BITS, SYMBOLS)
    return tables.log_probabilities(arrays[1])


@given(SEQUENCES, SEQUENCES, st.integers(2, 4))
def test_probabilities_are_those_of_the_definition(texts, asked, order):
    oracle = Oracle(texts, order)
    padded = [[0] * (order - 1) + text for text in asked]
    grams = [tuple(text[at : at + order]) for text in padded for at in range(len(text) - order + 1)]
    expected = [math.log(oracle.probability(gram[:-1], gram[-1])) for gram in grams]
    assert log_probabilities(texts, order, asked) == pytest.approx(expected, abs=1e-5)


GOOD = [
    "The cat sat on the mat. The dog lay on the rug, and the cat looked at the dog.",
    "A dog barked at a cat. The cat ran from the dog, up a tree, and sat in the tree.",
    "In 1984 the dog was 3 years old, and the cat was 12 years old.",
] * 3


@for_each("options", [{}, {"order": 2}, {"vocabulary": 5}])
def test_words_and_unknown_ones_add_up_to_one(options):
    model = train_ngrams(GOOD, NgramConfig(**options))
    different = {token for text in GOOD for token in model_tokens(text)}
    assert model.unknown == len(different) - len(model.words) + 1
    scores = model.score([*model.words, "unheard"])
    assert {tokens for _, tokens in scores} == {1}
    known = sum(math.exp(-nats) for nats, _ in scores[:-1])
    assert known + model.unknown * math.exp(-scores[-1][0]) == pytest.approx(1, abs=1e-6)


def texts(number: int, seed: int = 0) -> list[str]:
    """Of twenty words, each of which is mostly followed by the next one."""
    generator = np.random.default_rng(seed)
    made = []
    for place in range(number):
        word, words = 0, []
        for _ in range(30):
            word = (word + 1) % 20 if generator.random() < 0.9 else int(generator.integers(20))
            words.append(f"word{word}")
        made.append(" ".join([*words, f"end{place}"]))
    return made


def test_the_model_is_that_of_the_documents_that_are_not_held_out():
    different = texts(300)
    given_texts = [*different, *different[:20]]
    learned = learn_ngrams(iter([*given_texts, " \n"]))
    held_out = [text for text in given_texts if hash_fraction(hash_json(text)) < 0.1]
    learning = [text for text in given_texts if text not in held_out]
    assert learned.documents == len(learning) and 15 < learned.held_out == len(held_out) < 60
    assert learned.model.score(different[:5]) == train_ngrams(learning, NgramConfig()).score(different[:5])
    costs = learned.model.score(held_out)
    assert isinstance(learned.nats, Scored)
    assert learned.nats.value == pytest.approx(sum(nats for nats, _ in costs) / sum(count for _, count in costs))


def test_the_suggested_threshold_keeps_such_documents_and_drops_others():
    learned = learn_ngrams(texts(800), NgramConfig(held_out=0.2))
    suggested = learned.quantiles[SUGGESTED]
    assert isinstance(suggested, Scored)
    generator = np.random.default_rng(1)
    others = [" ".join(f"word{word}" for word in generator.integers(0, 20, 30)) for _ in range(200)]
    kept, kept_of_others = (
        np.mean([np.exp(nats / n) <= suggested.value for nats, n in learned.model.score(given_texts)])
        for given_texts in (texts(200, seed=2), others)
    )
    assert kept > 0.85 and kept_of_others < 0.05
