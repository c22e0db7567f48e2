"""Ranking metrics against trec_eval's own code."""

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.ranking_metrics import ndcg_at_k, recall_at_k, reciprocal_rank


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5))
def test_equal_to_trec_eval(relevance, missed):
    relevant = sum(relevance) + missed
    if relevant == 0:
        return
    qrel = {f"d{i:02}": int(hit) for i, hit in enumerate(relevance)} | {f"m{i}": 1 for i in range(missed)}
    run = {f"d{i:02}": float(len(relevance) - i) for i in range(len(relevance))}
    oracle = pytrec_eval.RelevanceEvaluator({"q": qrel}, {"recall.10", "ndcg_cut.10", "recip_rank"})
    expected = oracle.evaluate({"q": run})["q"]
    assert recall_at_k(relevance, relevant, 10) == pytest.approx(expected["recall_10"], abs=1e-9)
    assert ndcg_at_k(relevance, relevant, 10) == pytest.approx(expected["ndcg_cut_10"], abs=1e-9)
    assert reciprocal_rank(relevance) == pytest.approx(expected["recip_rank"], abs=1e-9)


def test_a_question_without_relevant_items_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        recall_at_k([False], 0, 5)
