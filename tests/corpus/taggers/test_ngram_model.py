"""n-gram models: probabilities against dictionaries of tuples, which add up to 1, and what they are for."""

import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.config import NgramConfig
from lmworks.corpus.taggers.ngram_model import (
    NgramModel,
    Tables,
    load_ngram_model,
    model_tokens,
    perplexity_tagger,
    text_grams,
)
from lmworks.corpus.taggers.ngram_trainer import smooth, train_ngrams
from lmworks.corpus.taggers.tagger import Text

SYMBOLS, BITS = 5, 3  # 0 is the beginning
SEQUENCES = st.lists(st.lists(st.integers(1, SYMBOLS - 1), max_size=12), min_size=1, max_size=6).filter(any)


class Oracle:
    """The definition, in dictionaries of tuples, oldest symbol first."""

    def __init__(self, texts: list[list[int]], order: int, least: int) -> None:
        self.order, self.least = order, least
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
        kept = {
            each: (n - self.discount(length)) / sum(seen.values())
            for each, n in seen.items()
            if length < self.order or n >= self.least
        }
        return kept.get(symbol, 0) + (1 - sum(kept.values())) * shorter


def arrays(texts: list[list[int]]) -> list[np.ndarray]:
    return [np.array(text, np.int64) for text in texts]


def trained(texts: list[list[int]], order: int, least: int) -> Tables:
    keys, is_start = text_grams(arrays(texts), order, BITS)
    return smooth(*np.unique(keys[~is_start], return_counts=True), order, BITS, SYMBOLS, least)


@given(SEQUENCES, SEQUENCES, st.integers(2, 4), st.integers(1, 3))
def test_probabilities_are_those_of_the_definition(texts, asked, order, least):
    oracle = Oracle(texts, order, least)
    expected = []
    for text in asked:
        padded = [0] * (order - 1) + text
        expected += [
            math.log(oracle.probability(tuple(padded[at : at + order - 1]), symbol)) for at, symbol in enumerate(text)
        ]
    found = trained(texts, order, least).log_probabilities(arrays(asked))
    assert found == pytest.approx(expected, abs=1e-5)


@given(SEQUENCES, st.lists(st.integers(1, SYMBOLS - 1), max_size=5), st.integers(2, 4), st.integers(1, 3))
def test_probabilities_behind_any_context_add_up_to_one(texts, context, order, least):
    tables = trained(texts, order, least)
    found = tables.log_probabilities(arrays([[*context, symbol] for symbol in range(1, SYMBOLS)]))
    last = found.reshape(SYMBOLS - 1, len(context) + 1)[:, -1]
    assert np.exp(last).sum() == pytest.approx(1, abs=1e-6)


@given(SEQUENCES, SEQUENCES)
def test_a_text_is_what_it_is_alone(texts, asked):
    tables = trained(texts, 3, 1)
    alone = np.concatenate([tables.log_probabilities(arrays([text])) for text in asked])
    assert tables.log_probabilities(arrays(asked)).tolist() == alone.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Words

GOOD = [
    "The cat sat on the mat. The dog lay on the rug, and the cat looked at the dog.",
    "A dog barked at a cat. The cat ran from the dog, up a tree, and sat in the tree.",
    "In 1984 the dog was 3 years old, and the cat was 12 years old.",
] * 3


def train_word_model(texts: list[str], **options: int) -> NgramModel:
    return train_ngrams(texts, NgramConfig(**options))


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"least": 2}, {"min_count": 4}, {"vocabulary": 5}])
def test_words_and_unknown_ones_add_up_to_one(options):
    model = train_word_model(GOOD, **options)
    different = {token for text in GOOD for token in model_tokens(text)}
    assert model.unknown == len(different) - len(model.words) + 1
    scores = model.score([*model.words, "unheard"])
    assert {tokens for _, tokens in scores} == {1}
    known = sum(math.exp(-nats) for nats, _ in scores[:-1])
    assert known + model.unknown * math.exp(-scores[-1][0]) == pytest.approx(1, abs=1e-6)


def test_rare_words_are_not_cheap_because_there_are_many():
    texts = [f"the cat saw name{chr(97 + number // 26)}{chr(97 + number % 26)} and ran" for number in range(600)]
    model = train_word_model(texts, min_count=2)
    assert model.unknown == 601
    (begun, _), (whole, _) = model.score(["the cat saw", "the cat saw nobody"])
    assert whole - begun > math.log(600)  # an unknown word is certain, and which one is not


def test_tokens_are_casefolded_and_their_digits_are_zeros():
    assert model_tokens("In 1984, Straße") == ["in", "0000", ",", "strasse"]
    assert model_tokens(" \n") == []


def test_what_reads_like_the_good_texts_is_less_surprising():
    perplexity = perplexity_tagger(train_word_model(GOOD).score).tag
    texts = ("The cat sat in the tree.", "Tree the in sat cat the.", "Qux zyzzy plugh xyzzy frob.")
    fluent, shuffled, strange = (perplexity(Text(text)).scores["perplexity"] for text in texts)
    assert fluent < shuffled and fluent < strange
    assert perplexity(Text(" \n")).scores == {}


def test_a_model_on_disk_is_the_same(tmp_path: Path):
    model = train_word_model(GOOD, least=2)
    for name in ("one", "two"):
        train_word_model(GOOD, least=2).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for loaded in (load_ngram_model(tmp_path / "one"), pickle.loads(pickle.dumps(model))):
        assert loaded.score(["The cat sat, unheard of."]) == model.score(["The cat sat, unheard of."])


def test_a_model_of_other_tokens_is_refused(tmp_path: Path):
    train_word_model(GOOD).save(tmp_path / "model")
    with np.load(tmp_path / "model") as arrays:
        stored = dict(arrays)
    stored["description"][0] = 0
    np.savez(tmp_path / "old.npz", **stored)
    with pytest.raises(ValueError, match=r"of tokens of version 0, .* train it again"):
        load_ngram_model(tmp_path / "old.npz")


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="no token occurs 1 times"):
        train_word_model(["", " "])
    with pytest.raises(ValueError, match="order must be 2 at least"):
        train_word_model(GOOD, order=1)
    words = (f"w{chr(97 + n // 676)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(5000))
    with pytest.raises(ValueError, match="set vocabulary to 4,094 at most"):
        train_word_model([" ".join(words)], order=5)
