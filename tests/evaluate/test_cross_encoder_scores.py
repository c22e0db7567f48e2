"""Scores of heads against scikit-learn and trec_eval."""

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from lmworks.evaluate.cross_encoder_scores import measure
from lmworks.evaluate.metric import Response
from lmworks.evaluate.string_metrics import exact_match, token_f1
from lmworks.records import Scored
from lmworks.train.objectives.cross_encoder_objective import Entailment, Ranking, Reading

CONTEXT = "the Nile runs north, a river of 6,650 km in Africa, to the Mediterranean Sea."


def value_of(found, name: str) -> float:
    score = found.scores[name]
    assert isinstance(score, Scored) and score.interval[0] <= score.value <= score.interval[1]
    return score.value


def random_span(generator) -> tuple[int, int]:
    start = int(generator.integers(0, len(CONTEXT) - 12))
    return start, start + int(generator.integers(4, 12))


def test_a_reader_that_abstains_is_scored_as_in_squad_2():
    generator = np.random.default_rng(0)
    rows, responses, exact, words, stated = [], [], [], [], []
    for number in range(400):
        gold = [random_span(generator) for _ in range(int(generator.integers(0, 3)))]
        start, end = gold[0] if gold and number % 2 else random_span(generator)
        confidence = float(np.round(generator.random(), 4))
        rows.append(Reading("where?", f"{CONTEXT} {number}", tuple(gold)))
        responses.append(Response(CONTEXT[start:end], confidence=confidence))
        given, texts = CONTEXT[start:end] if confidence > 0.5 else "", [CONTEXT[a:b] for a, b in gold] or [""]
        exact.append(max(exact_match(given, text) for text in texts))
        words.append(max(token_f1(given, text) for text in texts))
        stated.append(confidence)
    found = measure("reader", rows, responses)
    assert value_of(found, "exact-match") == pytest.approx(np.mean(exact))
    assert value_of(found, "token-f1") == pytest.approx(np.mean(words))
    assert found.scores["exact-match-answered"].n == sum(bool(row.answers) for row in rows)  # type: ignore[union-attr]
    auroc = roc_auc_score([bool(row.answers) for row in rows], stated)
    assert value_of(found, "auroc") == pytest.approx(auroc, abs=0.003)  # 400 different ones in 128 bins
    few = measure("reader", rows[:100], responses[:100])
    auroc = roc_auc_score([bool(row.answers) for row in rows[:100]], stated[:100])
    assert value_of(few, "auroc") == pytest.approx(auroc, abs=1e-12)


def test_reranker_scores_are_those_of_trec_eval():
    generator = np.random.default_rng(1)
    rows, responses, judged, ranked = [], [], {}, {}
    for number in range(50):
        right, wrong = int(generator.integers(1, 4)), int(generator.integers(1, 9))
        texts = [f"{number}-{place}" for place in range(wrong + right)]  # what does not answer first
        scores = generator.random(wrong + right).tolist()
        rows.append(Ranking(f"q{number}", texts[wrong], tuple(texts[:wrong]), positives=tuple(texts[wrong:])))
        responses.append(Response(choices=tuple(scores)))
        judged[f"q{number}"] = {text: int(place >= wrong) for place, text in enumerate(texts)}
        ranked[f"q{number}"] = dict(zip(texts, scores, strict=True))
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"map", "recip_rank"}).evaluate(ranked).values()
    found = measure("reranker", rows, responses)
    assert value_of(found, "mrr") == pytest.approx(np.mean([one["recip_rank"] for one in theirs]))
    assert value_of(found, "map") == pytest.approx(np.mean([one["map"] for one in theirs]))


def test_verifier_scores_are_those_of_scikit_learn():
    generator, labels = np.random.default_rng(2), ("entailment", "neutral", "contradiction")
    gold = generator.integers(0, 3, 300)
    stated = generator.dirichlet(np.ones(3), 300)
    rows = [Entailment(f"premise {n}", "so", labels[label]) for n, label in enumerate(gold)]
    found = measure("verifier", rows, [Response(choices=tuple(row)) for row in stated.tolist()])
    assert value_of(found, "acc") == pytest.approx(accuracy_score(gold, stated.argmax(1)))
    assert value_of(found, "macro-f1") == pytest.approx(f1_score(gold, stated.argmax(1), average="macro"))
    better = measure("verifier", rows, [Response(choices=tuple(np.eye(3)[label])) for label in gold])
    assert [one.verdict for one in better.less(found)] == ["better", "better"]
    assert [one.verdict for one in found.less(better)] == ["worse", "worse"]
