"""The most probable tokens at each place of what is scored, against a plain forward."""

import pytest
import torch

from lmworks.generate import scoring
from lmworks.generate.engine import Engine


@pytest.mark.parametrize("limits", [{}, {"BATCH_TOKENS": 7, "LOGIT_ROWS": 3}])
def test_alternatives_are_those_of_a_plain_forward(tiny_llama, monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(scoring, name, value)
    contexts, continuations = [[5, 6], [5, 6], [9]], [[1, 2, 3, 4], [], [8, 7]]
    scores = Engine(tiny_llama, weights="float32").score(contexts, continuations, alternatives=4)
    for context, continuation, score in zip(contexts, continuations, scores, strict=True):
        with torch.inference_mode():
            logits = tiny_llama.model(torch.tensor([context + continuation]))[0]  # (length, vocabulary)
        values, ids = logits.log_softmax(-1)[len(context) - 1 : -1].topk(4)
        assert [[token for token, _ in row] for row in score.alternatives] == (ids.tolist() if continuation else [])
        told = [value for row in score.alternatives for _, value in row]
        assert told == pytest.approx(values.flatten().tolist() if continuation else [], abs=5e-5)  # as test_scoring.py
        for token, value, row in zip(continuation, score.log_probabilities, score.alternatives, strict=True):
            assert dict(row).get(token, value) == value  # the same bits: a client asks whether it is the best one


def test_none_are_told_that_were_not_asked_for(tiny_llama):
    (score,) = Engine(tiny_llama, weights="float32").score([[1]], [[2, 3]])
    assert score.alternatives == ()
