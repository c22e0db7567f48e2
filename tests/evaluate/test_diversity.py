"""Distinct n-grams, repetition and self-BLEU: closed forms, and sacrebleu."""

import pytest
import sacrebleu

from lmworks.evaluate.metric import Item, Response, item_value, score
from lmworks.evaluate.registry import metric
from lmworks.records import Scored, Unscored

ITEM = Item("1")


def value(name, response):
    found = metric(name).measure([ITEM], [response])[0]
    return found if isinstance(found, Unscored) else item_value(metric(name), found)


def test_distinct_counts_the_n_grams_of_a_response_and_its_samples():
    assert value("distinct@1", Response("a b", samples=("a c",))) == 3 / 4
    assert value("distinct@2", Response("a b", samples=("a b", "a"))) == 1 / 2
    assert isinstance(value("distinct@2", Response("word")), Unscored)


def test_repetition_is_the_share_that_stood_before():
    assert value("repetition@1", Response("a a a a")) == 3 / 4
    assert value("repetition@2", Response("a b a b a")) == 2 / 4
    assert value("repetition@4", Response("no word twice in this")) == 0
    assert isinstance(value("repetition@4", Response("")), Unscored)


def test_repetition_of_items_is_of_all_their_n_grams_and_never_certain():
    repetition = metric("repetition@1")
    found = score(repetition, [Item("1"), Item("2")], repetition.measure([ITEM] * 2, [Response("a b")] * 2))
    assert isinstance(found, Scored)
    assert found.value == 0
    assert found.interval[1] > 0.3


def test_self_bleu_is_the_mean_of_sentences_against_the_others():
    texts = ["the cat sat on the mat", "the cat sat on a mat today", "", "a dog"]
    expected = [sacrebleu.sentence_bleu(one, [*texts[:i], *texts[i + 1 :]]).score for i, one in enumerate(texts)]
    assert value("self-bleu", Response(texts[0], samples=tuple(texts[1:]))) == pytest.approx(sum(expected) / 4)
    assert value("self-bleu", Response("the cat sat", samples=("the cat sat",))) == pytest.approx(100)
    assert isinstance(value("self-bleu", Response("alone")), Unscored)
