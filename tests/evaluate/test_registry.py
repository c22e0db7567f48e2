"""`compute`: a number of any metric by its name, against the libraries that define it."""

import pytest
import sacrebleu

import lmworks
from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.records import Scored, Unscored

PREDICTIONS = ["the cat sat on the mat", "he read a long book yesterday evening", "it rains", "a b c d e f", "no"]
REFERENCES = [
    ["the cat sat on a mat", "a cat is sitting on the mat"],
    ["he read a long book last night", "yesterday evening he read"],
    ["it is raining", "it rains"],
    ["a b c d e g", "a b"],
    ["no", "not at all"],
]


@for_each(("name", "oracle"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_the_value_is_that_of_sacrebleu_with_its_interval_and_signature(name, oracle):
    found = lmworks.evaluate.compute(name, PREDICTIONS, REFERENCES)
    assert isinstance(found, Scored) and found.n == 5 and found.interval[0] <= found.value <= found.interval[1]
    assert found.value == pytest.approx(oracle(PREDICTIONS, list(zip(*REFERENCES, strict=True))).score, abs=1e-9)
    others = lmworks.evaluate.compute(name, PREDICTIONS, [own[0] for own in REFERENCES])
    assert isinstance(others, Scored) and others.signature != found.signature


def test_items_that_cannot_be_scored_are_left_out_of_n():
    found = lmworks.evaluate.compute("repetition@2", ["a b a b", "", "a b c"])
    assert isinstance(found, Scored) and found.n == 2
    assert isinstance(lmworks.evaluate.compute("repetition@2", ["a"]), Unscored)


@for_each(
    ("arguments", "error", "message"),
    [
        (("blue", ["a"], ["a"]), LookupError, "did you mean bleu.*rouge-lsum"),
        (("bleu", ["a"]), ValueError, "no references"),
        (("bleu", ["a", "b"], ["a"]), ValueError, "2 predictions.*1 references"),
        (("bleu", "a text", ["a"]), ValueError, "predictions are several texts"),
        (("bertscore", ["a"], ["a"]), ValueError, "role encoder"),
    ],
)
def test_what_cannot_be_computed_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        lmworks.evaluate.compute(*arguments)


def test_a_model_can_be_named(tiny, tiny_folder):
    texts = ["a text of words", "another one, longer"]
    found = lmworks.evaluate.compute("model-perplexity", texts, model=str(tiny_folder))
    assert found == lmworks.evaluate.compute("model-perplexity", texts, model=Engine(tiny, weights="float32"))
    with pytest.raises(ValueError, match="MODEL:RUBRIC:"):
        lmworks.evaluate.compute("g-eval", texts, judge="smollm2-135m-instruct")
