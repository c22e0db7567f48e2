"""METEOR against nltk with the same synonyms."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from nltk.translate.meteor_score import meteor_score

from kit.tables import for_each
from lmworks.evaluate.meteor import meteor_words
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.evaluate.wordnet import synonyms
from text_pairs import references, sentences, text_pairs


class OurSynonyms:
    """nltk's interface to a dictionary."""

    def synsets(self, word):
        return [SimpleNamespace(lemmas=lambda: [SimpleNamespace(name=lambda one=one: one) for one in synonyms(word)])]


def theirs(response, texts):
    return meteor_score([meteor_words(one) for one in texts], meteor_words(response), wordnet=OurSynonyms())


def test_values_are_those_of_nltk():
    items, responses = map(list, zip(*text_pairs(), strict=True))
    for item, response, value in zip(items, responses, metric("meteor").measure(items, responses), strict=True):
        assert value == pytest.approx(theirs(response.text, item.references), abs=1e-12)


@given(sentences, references)
def test_values_of_any_words_are_those_of_nltk(response, texts):
    value = metric("meteor").measure([Item("1", references=tuple(texts))], [Response(response)])[0]
    assert value == pytest.approx(theirs(response, texts), abs=1e-12)


def test_a_synonym_counts_as_the_word_itself():
    """WordNet: car and auto share a synset. One chunk of four words: the penalty is 0.5 / 64."""
    value = metric("meteor").measure([Item("1", references=("my car is red",))], [Response("my auto is red")])[0]
    assert value == pytest.approx(1 - 0.5 / 64)


@for_each(
    ("word", "one"),
    [("car", "automobile"), ("geese", "goose"), ("Ran", "run"), ("churches", "church"), ("best", "good")],
)
def test_synonyms_are_of_base_forms_too(word, one):
    assert one in synonyms(word)
