"""The classifier against scikit-learn's, its features against plain Python, its evaluation against known numbers."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils import murmurhash3_32

from kit.tables import for_each
from lmworks.corpus.taggers.classifier import features, load_classifier
from lmworks.corpus.taggers.classifier_trainer import (
    LEAST,
    Example,
    Learned,
    evaluate,
    examples_from,
    learn_classifier,
    split,
    suggest_threshold,
    usable,
)
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.corpus.taggers.words import tokens

BITS = 12
CONFIG = ClassifierConfig(bits=BITS)


def make_examples() -> list[Example]:
    """Texts of 60 words, of which those with the label use the second half of the words more often."""
    generator = np.random.default_rng(0)
    examples = []
    for _ in range(900):
        label = bool(generator.random() < 0.4)
        tilt = np.where(np.arange(60) >= 30, 2.0 if label else 1.0, 1.0)
        words = generator.choice(60, size=int(generator.integers(5, 60)), p=tilt / tilt.sum())
        examples.append(Example(" ".join(f"word{word}" for word in words), label))
    return examples


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn_classifier(make_examples(), "wanted", CONFIG)


TOKENS = st.lists(st.text(min_size=1, max_size=8).filter(lambda token: "\n" not in token), max_size=20)


@given(st.lists(TOKENS, min_size=1, max_size=4), st.integers(1, 3))
@also([["Don't", "stop", "STRASSE", "世界", "\ud800"]], 2)
def test_features_are_roots_of_the_shares_of_hashed_ngrams(texts: list[list[str]], order: int) -> None:
    """Models on disk are worth nothing once these change: raise FEATURES then."""
    found = features(texts, order, 8).toarray()
    assert found.shape == (len(texts), 256)
    for row, words in zip(found, texts, strict=True):
        folded = [word.casefold() for word in words]
        grams = [" ".join(folded[at : at + n]) for n in range(1, order + 1) for at in range(len(words) - n + 1)]
        counts = Counter(abs(int(murmurhash3_32(gram.encode("utf-8", "surrogatepass")))) % 256 for gram in grams)
        expected = np.zeros(256)
        for bucket, count in counts.items():
            expected[bucket] = math.sqrt(count / counts.total())
        assert row == pytest.approx(expected)


def test_probabilities_are_those_of_scikit_learn(learned: Learned) -> None:
    fitting, calibrating, evaluating = (
        (features([tokens(each.text) for each in part], 2, BITS), [each.label for each in part], part)
        for part in split(make_examples(), 0.15)
    )
    model = LogisticRegression(C=10.0, max_iter=1000).fit(fitting[0], fitting[1])
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(calibrating[0], calibrating[1])
    expected = calibrated.predict_proba(evaluating[0])[:, 1]
    found = learned.classifier.probabilities([each.text for each in evaluating[2]])
    assert found == pytest.approx(expected, abs=1e-3)
    assert learned.evaluation.n == len(found)
    assert learned.evaluation.auc.value == pytest.approx(roc_auc_score(evaluating[1], found))


def test_the_same_examples_give_the_same_file_and_what_is_saved_is_loaded(learned: Learned, tmp_path: Path) -> None:
    path, classifier = tmp_path / "new" / "wanted.npz", learned.classifier
    classifier.save(path)
    learn_classifier(make_examples(), "wanted", CONFIG).classifier.save(tmp_path / "two.npz")
    assert path.read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = load_classifier(path)
    assert loaded.weights.tolist() == classifier.weights.tolist()
    others = attrgetter("bias", "order", "positive", "evaluation")
    assert others(loaded) == others(classifier)
    with pytest.raises(FileExistsError):
        classifier.save(path)
    assert [each.name for each in path.parent.iterdir()] == ["wanted.npz"]


def test_what_is_no_classifier_is_refused(learned: Learned, tmp_path: Path) -> None:
    learned.classifier.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as arrays:
        weights, description = arrays["weights"], arrays["description"]
    former = np.frombuffer(json.dumps(json.loads(description.tobytes()) | {"features": 0}).encode(), np.uint8)
    path = tmp_path / "some.npz"
    for content in (b"", b"no archive", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_classifier(path)
    for content in (
        {"other": weights},
        {"weights": weights, "description": former},
        {"weights": weights[:100], "description": description},
    ):
        np.savez(path, **content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_classifier(path)


def test_the_interval_of_the_auc_is_that_of_the_bootstrap() -> None:
    generator = np.random.default_rng(1)
    labels = generator.random(400) < 0.3
    scores = 1 / (1 + np.exp(-(generator.normal(size=400) + labels)))
    draws = generator.integers(0, 400, (2000, 400))
    ranks, hits = rankdata(scores[draws], axis=1), labels[draws]
    positive = hits.sum(axis=1)
    aucs = ((ranks * hits).sum(axis=1) - positive * (positive + 1) / 2) / (positive * (400 - positive))
    assert evaluate(scores, labels, "s").auc.interval == pytest.approx(np.quantile(aucs, [0.025, 0.975]), abs=0.01)
    few = np.array([False] * 20 + [True] * 5)  # a perfect order claims no certainty
    auc = evaluate(few * 0.8 + 0.1, few, "s").auc
    assert auc.value == 1 and auc.interval[0] < 0.6


SCORES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(SCORES)
@also([(0.0, False), (5e-324, True)])
def test_no_other_threshold_parts_the_examples_better(rows: list[tuple[float, bool]]) -> None:
    probabilities, labels = np.array([p for p, _ in rows]), np.array([label for _, label in rows])

    def youden(threshold: float) -> float:
        """Recall minus the share wrongly taken, by counting."""
        taken = probabilities >= threshold
        return sum(taken & labels) / sum(labels) - sum(taken & ~labels) / sum(~labels)

    others = [*probabilities, *(np.nextafter(p, 2) for p in probabilities)]  # below and above each of them
    between = [t for t in others if probabilities.min() < t <= probabilities.max()]
    assert youden(suggest_threshold(probabilities, labels)) == pytest.approx(max(map(youden, between), default=0.0))


GOOD, BAD = "fine words, number {}".format, "cheap pills, number {}".format


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@for_each(
    ("labels", "positive"), [((True, False), ""), ((1, 0), ""), (("law", "sport"), "law"), (("TRUE", "False"), "")]
)
def test_rows_may_have_their_own_labels_and_groups(labels, positive, tmp_path):
    rows = [
        {"text": text(n), "topic": label, "page": f"page {n}"}
        for text, label in zip((GOOD, BAD), labels, strict=True)
        for n in range(LEAST)
    ]
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], label="topic", positive=positive, group="page")
    assert sum(example.label for example in found) == LEAST
    assert all(example.label == example.text.startswith("fine") for example in found)
    assert all(example.group == f"page {example.text.split()[-1]}" for example in found)


def test_copies_contradictions_and_texts_without_words_are_left_out():
    sides = [Example(text(n), text is GOOD) for text in (GOOD, BAD) for n in range(LEAST + 2)]
    found = usable([*sides, Example(GOOD(0), True), Example(GOOD(1), False), Example(" \n", True)])
    assert len(found) == 2 * (LEAST + 2) - 1
    assert GOOD(1) not in {example.text for example in found}
    with pytest.raises(ValueError, match=r"50.*49"):
        usable([*sides[:LEAST], *sides[-LEAST + 1 :]])


def test_groups_and_copies_are_on_one_side():
    examples = [Example(f"{n % 7} {'fine' if n % 2 else 'cheap'} {n}", bool(n % 2), f"g{n // 10}") for n in range(2000)]
    groups = [{example.group for example in part} for part in split(examples, 0.15)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 200
    assert 15 < len(groups[2]) < 50  # the share is 0.15
    twice = [{each.text for each in part} for part in split([Example(e.text, e.label) for e in examples] * 2, 0.15)]
    assert sum(map(len, twice)) == len(examples)
