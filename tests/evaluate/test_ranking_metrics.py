"""Ranking metrics against trec_eval's own code, and where spans are no whole passages."""

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.metric import Item, Response, score
from lmworks.evaluate.registry import metric
from lmworks.records import Retrieved, Scored, Span, Unscored
from lmworks.statistics import mean_score

MEASURES = {"recall.5", "P.5", "success.5", "ndcg_cut.5", "recip_rank", "map"}
OURS = {"recall@5": "recall_5", "precision@5": "P_5", "success@5": "success_5", "ndcg@5": "ndcg_cut_5"}
OURS |= {"mrr": "recip_rank", "map": "map", "context-precision": "map"}


names = st.integers(0, 25).map(lambda number: f"d{number}")


@given(
    st.dictionaries(names, st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=1, max_size=20),
    st.dictionaries(names, st.integers(1, 3), min_size=1, max_size=8),
)
def test_of_spans_that_are_whole_passages_with_ties_and_grades(scores, grades):
    expected = pytrec_eval.RelevanceEvaluator({"q": grades}, MEASURES).evaluate({"q": scores})["q"]
    spans = {name: Span("d", 10 * number, 10 * number + 10) for number, name in enumerate({**scores, **grades})}
    item = Item("q", gold=tuple(spans[name] for name in grades), fields={"grades": list(grades.values())})
    ranking = sorted(scores, key=lambda name: (scores[name], name), reverse=True)  # trec_eval's, ties by falling id
    response = Response(retrieved=tuple(Retrieved(name, spans[name], "", "", {}) for name in ranking))
    for name, theirs in OURS.items():
        assert metric(name).measure([item], [response])[0] == pytest.approx(expected[theirs], abs=1e-9), name
    found = set(scores) & set(grades)
    assert metric("context-recall").measure([item], [response])[0] == pytest.approx(len(found) / len(grades))


def test_a_second_passage_to_the_same_span_adds_nothing_and_two_spans_in_one_passage_count_once():
    gold = (Span("d", 0, 10), Span("d", 12, 20), Span("d", 90, 99))
    found = [Retrieved("", span, "", "", {}) for span in (Span("d", 0, 30), Span("d", 0, 10), Span("d", 80, 95))]
    item, response = Item("q", gold=gold), Response(retrieved=tuple(found))
    values = {name: metric(name).measure([item], [response])[0] for name in ("recall@2", "map", "context-recall")}
    assert values == {"recall@2": 0.5, "map": pytest.approx((1 + 2 / 3) / 2), "context-recall": (1 + 1 + 5 / 9) / 3}


def test_nothing_retrieved_is_0_and_no_gold_is_unscored():
    gold = Item("q", gold=(Span("d", 0, 10),))
    for name in (*OURS, "context-recall"):
        zero, nothing = metric(name).measure([gold, Item("r")], [Response(), Response()])
        assert zero == 0.0 and isinstance(nothing, Unscored), name


def test_an_interval_of_shares_is_not_that_of_coin_tosses():
    """A mean of shares spreads less than one of 0 and 1; as a proportion its interval covers as a mean's does."""
    values = [0.2, 0.3, 0.25, 0.35, 0.3, 0.2, 0.4, 0.1] * 5
    found, mean = score(metric("span-f1"), [Item(str(n)) for n in range(40)], values), mean_score(values, "")
    assert isinstance(found, Scored) and isinstance(mean, Scored)
    assert found.interval == pytest.approx(mean.interval, abs=0.01)
