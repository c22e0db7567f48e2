"""Refusals and answers; shares against counting by hand, the area against the curve that is tested itself."""

import math

import numpy as np
import pytest

from lmworks.evaluate.abstention import risk_coverage
from lmworks.evaluate.metric import Item, Response, score
from lmworks.evaluate.refusal_metrics import aurc_metric, is_refusal, is_right
from lmworks.evaluate.registry import metric
from lmworks.ground.refusal_rows import REFUSALS
from lmworks.records import Scored

SAID = "I don't know."


def item(name, known=True, answer="Paris"):
    return Item(name, "?", (answer,), fields={"known": known})


def test_a_refusal_is_told_from_an_answer():
    said = ["I’m sorry, but I don’t have enough information to say.", "I'm sorry. I cannot answer this question."]
    said += ["The passage does not mention who won.", "i do not know", "It is not mentioned in the passage."]
    assert [text for text in (*REFUSALS, *said) if not is_refusal(text)] == []
    said = ["Paris", "", "The capital is Paris. I don't know when it was founded.", "He said that nobody knows."]
    said += ["It is not known as Lutetia any more.", "The function does not return a value."]
    assert [text for text in said if is_refusal(text)] == []


def test_shares_are_those_counted_by_hand():
    rows = [(item("a"), "It is Paris."), (item("b"), SAID), (item("c"), "Rome"), (item("d"), "Paris")]
    rows += [(item("e", False), SAID), (item("f", False), "Rome"), (item("g", False), SAID)]
    items, responses = [one for one, _ in rows], [Response(text) for _, text in rows]
    expected = {"refusal-precision": (2, 3), "refusal-recall": (2, 3), "over-refusal": (1, 4), "coverage": (4, 7)}
    for name, (part, whole) in {**expected, "selective-accuracy": (2, 4)}.items():
        made = metric(name)
        found = score(made, items, made.measure(items, responses))
        assert isinstance(found, Scored) and found.n == whole and found.value == pytest.approx(part / whole), name


def test_a_long_reference_need_not_be_repeated_to_the_letter():
    long = "It stores the results of calls so that equal calls later are answered without work"
    near = Response("It stores results of calls, so that later equal calls are answered without any work.")
    assert is_right(item("a", answer=long), near) and not is_right(item("a", answer=long), Response("It stores"))
    assert not is_right(item("a", answer="I don't know"), Response(SAID)), "a refusal is no right answer"


def test_the_area_is_that_of_the_curve_and_refusals_come_last():
    draws = np.random.default_rng(0)
    logs, right = -draws.random(60), draws.random(60) < 0.6
    items = [item(str(number)) for number in range(60)]
    responses = [
        Response("Paris" if ok else "Rome", log_probabilities=(float(log),))
        for log, ok in zip(logs, right, strict=True)
    ]
    responses[:6] = [Response(SAID, log_probabilities=(float(log),)) for log in logs[:6]]
    stated = [-math.exp(log) if place < 6 else math.exp(log) for place, log in enumerate(logs)]
    area = risk_coverage(stated, [ok and place >= 6 for place, ok in enumerate(right)]).area
    made = aurc_metric()
    found = score(made, items, made.measure(items, responses))
    assert isinstance(found, Scored) and found.value == pytest.approx(area)
    assert found.interval[0] < area < found.interval[1]
