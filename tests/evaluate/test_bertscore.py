"""BERTScore against bert-score 0.3.13 on the same folder."""

import bert_score
import numpy as np
import pytest
from transformers.utils import logging

from kit.tables import for_each
from lmworks.evaluate.bertscore import bert_scores, bertscore
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import load
from lmworks.records import Unscored

CANDIDATES = [
    "The tower was built in 1889 by an engineer.",
    "Nobody knows where the cat slept.",
    "a",
    "Cells divide; each half is a whole, which is how a body grows and mends itself!",
    "The mayor paid for the road.",
]
REFERENCES = [
    "An engineer built the tower, in 1889.",
    "Where the cat slept is known to no one.",
    "The letter",
    "A body grows and mends because its cells divide.",
    "The county promised that the road would be paid for.",
]


@for_each(("fused", "layer", "idf"), [(True, 4, True), (False, 6, False), (True, 0, False)])
def test_equal_to_bert_score(minilm, fused, layer, idf, monkeypatch):
    monkeypatch.setattr("lmworks.evaluate.bertscore._PAIRS", 2)
    logging.disable_progress_bar()
    encoder = TextEncoder(load(minilm), weights="float32")
    if not fused:
        encoder.model = load(minilm).model
    expected = bert_score.score(
        CANDIDATES, REFERENCES, str(minilm), num_layers=layer, idf=idf, device="cpu", nthreads=0
    )
    found = bert_scores(encoder, CANDIDATES, REFERENCES, layer, REFERENCES if idf else ())
    np.testing.assert_allclose(np.array(found).T, np.stack([part.numpy() for part in expected]), atol=1e-6)


def test_the_metric_is_the_references_whatever_the_encoders_weights(minilm):
    """An encoder of default weights (8 bits) is 0.01 away."""
    logging.disable_progress_bar()
    f1 = bert_score.score(CANDIDATES, REFERENCES, str(minilm), num_layers=6, device="cpu", nthreads=0)[2]
    made = metric("bertscore", encoder=str(minilm))
    items = [Item(str(n), references=(text,)) for n, text in enumerate(REFERENCES)]
    found = made.measure(items, [Response(text) for text in CANDIDATES])
    np.testing.assert_allclose(found, f1.numpy(), atol=1e-6)


def test_the_best_reference_counts_and_a_baseline_rescales(minilm_checkpoint):
    encoder = TextEncoder(minilm_checkpoint, weights="float32")
    items = [Item("a", references=(REFERENCES[1], REFERENCES[0])), Item("b", references=(REFERENCES[0],))]
    both, empty = bertscore(encoder).measure(items, [Response(CANDIDATES[0]), Response(" ")])
    (alone,) = bertscore(encoder).measure(items[1:], [Response(CANDIDATES[0])])
    assert both == alone and isinstance(empty, Unscored)
    (rescaled,) = bertscore(encoder, baseline=(0, 0, 0.5)).measure(items[1:], [Response(CANDIDATES[0])])
    assert rescaled == pytest.approx((alone - 0.5) / 0.5)
    assert bertscore(encoder).signature != bertscore(encoder, layer=2).signature
