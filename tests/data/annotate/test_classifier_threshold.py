"""Thresholds: the suggested one against all that there are, what each does against counts by hand."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmworks.data.annotate.classifier_evaluation import evaluate, point, suggest_threshold
from lmworks.records import Scored, Unscored
from lmworks.statistics import wilson_interval

SCORES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def youden(threshold: float, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Recall minus the share wrongly taken, by counting."""
    taken = probabilities >= threshold
    return sum(taken & labels) / sum(labels) - sum(taken & ~labels) / sum(~labels)


@given(SCORES)
@example([(0.0, False), (5e-324, True)])
def test_no_other_threshold_parts_the_examples_better(rows):
    probabilities, labels = np.array([p for p, _ in rows]), np.array([label for _, label in rows])
    found = suggest_threshold(probabilities, labels)
    others = [*probabilities, *(np.nextafter(p, 2) for p in probabilities)]  # below and above each of them
    between = [t for t in others if probabilities.min() < t <= probabilities.max()]
    best = max((youden(t, probabilities, labels) for t in between), default=0.0)
    assert youden(found, probabilities, labels) == pytest.approx(best)


def test_it_does_not_depend_on_how_frequent_the_label_is():
    generator = np.random.default_rng(0)
    labels = np.array([True] * 50 + [False] * 50)
    probabilities = np.clip(generator.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    more = np.concatenate([probabilities, np.tile(probabilities[50:], 9)])
    assert suggest_threshold(more, np.concatenate([labels, [False] * 450])) == suggest_threshold(probabilities, labels)


def test_it_is_as_short_as_it_can_be():
    labels = np.array([False, False, True, True])
    assert suggest_threshold(np.array([0.1, 0.21, 0.52, 0.9]), labels) == 0.36
    assert suggest_threshold(np.array([0.1, 0.51231, 0.51232, 0.9]), labels) == 0.51232
    assert suggest_threshold(np.array([0.3, 0.3, 0.3, 0.3]), labels) == 0.3


@given(SCORES, st.floats(0, 1))
def test_what_a_threshold_does_is_counted(rows, threshold):
    probabilities, labels = np.array([p for p, _ in rows]), np.array([label for _, label in rows])
    found = point(threshold, probabilities, labels, "s")
    taken = [label for p, label in rows if p >= threshold]
    expected = {"precision": taken, "recall": [p >= threshold for p, label in rows if label]}
    expected["wrongly"] = [p >= threshold for p, label in rows if not label]
    for name, outcomes in expected.items():
        score = getattr(found, name)
        if outcomes:
            assert score == Scored(np.mean(outcomes), wilson_interval(sum(outcomes), len(outcomes)), len(outcomes), "s")
        else:
            assert score == Unscored("no text is taken")


def test_an_evaluation_has_the_suggested_threshold_and_others():
    labels = np.arange(40) % 2 == 0
    found = evaluate(np.where(labels, 0.55, 0.35), labels, "s", 0.45)
    assert found.suggested.threshold == 0.45
    assert found.suggested.precision.value == found.suggested.recall.value == 1.0
    assert {each.threshold: each.recall.value for each in found.points}[0.6] == 0.0
