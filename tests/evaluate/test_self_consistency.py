"""SelfCheckGPT in closed form, and its direction: a response that the samples contradict scores higher."""

import math

import numpy as np
import pytest

from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.evaluate.self_consistency import ngram_surprisal
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import Unscored

SAMPLES = ("Bell was born in Edinburgh in 1847.", "Alexander Bell was born in 1847. He was a Scot.")
TRUE, FALSE = "Bell was born in 1847.", "Bell was born in 1912."


def test_ngrams_in_closed_form():
    # a a b | samples: a c => a: 3, b: 1, c: 1 of 5
    assert ngram_surprisal("a a b", ["a c"]) == pytest.approx(-(2 * math.log(3 / 5) + math.log(1 / 5)) / 3)
    # the mean over sentences of each one's most surprising word; "." counts as a word: 2 of 5
    assert ngram_surprisal("A b. C.", [], most=True) == pytest.approx(-math.log(1 / 5))
    # (<s> a) twice, (a b) and (a c) once each: joint frequencies, of 4
    assert ngram_surprisal("a b", ["a c"], 2) == pytest.approx(-(math.log(2 / 4) + math.log(1 / 4)) / 2)


def verifier(pairs):
    said = np.array([hypothesis == FALSE and "1847" in premise for premise, hypothesis in pairs])
    return np.column_stack([~said * 0.5, np.full(len(pairs), 0.5), said * 0.5])


def test_what_the_samples_contradict_scores_higher(minilm_checkpoint):
    roles = {"encoder": TextEncoder(minilm_checkpoint, weights="float32"), "verifier": verifier}
    responses = [Response(TRUE, SAMPLES), Response(FALSE, SAMPLES), Response(TRUE), Response("", SAMPLES)]
    names = ("selfcheck-ngram@1", "selfcheck-ngram@2", "selfcheck-ngram-max@1", "selfcheck-bertscore")
    for name in (*names, "selfcheck-entailment"):
        found = metric(name, **roles)
        true, false, *others = found.measure([Item("a")] * 4, responses)
        assert isinstance(true, float) and isinstance(false, float) and true < false, name
        assert found.higher_is_better is False and all(isinstance(one, Unscored) for one in others)
    assert false == 1.0 and true == 0.0
