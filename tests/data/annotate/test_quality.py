"""Importance weights against their formula."""

import json
import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.features import hashed_ngrams
from lmworks.data.annotate.quality import Importance, load_importance, train_importance
from lmworks.data.annotate.words import tokens
from lmworks.data.annotation import Text

SENTENCES = st.lists(st.sampled_from("the cat sat on a mat , and dogs barked .".split()), min_size=1, max_size=12)
CORPORA = st.lists(SENTENCES.map(" ".join), min_size=1, max_size=5)


def by_formula(target: list[str], raw: list[str], text: str, order: int, bits: int, smoothing: float) -> float:
    """ln of the product over n-grams of p(bucket | target) / p(bucket | raw)."""
    counts = [Counter(bucket for each in texts for bucket in hashed_ngrams(tokens(each), order, bits).tolist())
              for texts in (target, raw)]  # fmt: skip
    total = 0.0
    for bucket in hashed_ngrams(tokens(text), order, bits).tolist():
        p, q = ((count[bucket] + smoothing) / (count.total() + smoothing * 2**bits) for count in counts)
        total += math.log(p / q)
    return total


@given(CORPORA, CORPORA, SENTENCES.map(" ".join), st.integers(1, 3), st.sampled_from([0.01, 1.0]))
def test_importance_is_the_formula(target, raw, text, order, smoothing):
    importance = train_importance(target, raw, order=order, bits=9, smoothing=smoothing)
    expected = by_formula(target, raw, text, order, 9, smoothing)
    measures = importance(Text(text)).measures
    assert measures["importance"] == pytest.approx(expected, abs=1e-4)
    n = sum(max(0, len(text.split()) - length + 1) for length in range(1, order + 1))
    assert measures["importance_per_ngram"] == pytest.approx(expected / n, abs=1e-4)


@given(CORPORA, CORPORA, SENTENCES.map(" ".join))
def test_target_and_raw_swapped_change_its_sign(target, raw, text):
    there, back = (train_importance(*pair)(Text(text)).measures for pair in ((target, raw), (raw, target)))
    assert there["importance"] == pytest.approx(-back["importance"], abs=1e-4)
    assert train_importance(raw, raw)(Text(text)).measures["importance"] == 0


@given(CORPORA, CORPORA)
def test_shares_add_up_to_one(target, raw):
    """Σ q exp(ln p/q) = Σ p = 1, for q counted by hand."""
    importance = train_importance(target, raw, bits=9)
    counts = np.bincount(np.concatenate([hashed_ngrams(tokens(each), 2, 9) for each in raw]), minlength=2**9)
    q = (counts + 1) / (counts.sum() + 2**9)
    assert (q * np.exp(importance.ratios.astype(float))).sum() == pytest.approx(1, abs=1e-5)


def test_texts_like_the_target_weigh_more():
    importance = train_importance(["the cat sat on the mat"] * 5, ["buy cheap pills now"] * 5)
    weights = [importance(Text(text)).measures["importance_per_ngram"] for text in ("The cat", "cheap pills", "Quiz")]
    assert weights[0] > 0.5 and weights[1] < -0.5 and abs(weights[2]) < 0.5


def test_a_text_without_words_and_corpora_without():
    importance = train_importance(["a"], ["b"])
    assert importance(Text(" \n")).measures == {}
    for target, raw, told in (([], ["a"], "target"), (["a"], [" "], "raw")):
        with pytest.raises(ValueError, match=f"the {told} texts hold no words"):
            train_importance(target, raw)
    for options in ({"order": 9}, {"bits": 0}, {"smoothing": 0}):
        with pytest.raises(ValueError, match="must be"):
            train_importance(["a"], ["b"], **options)


def test_importance_on_disk(tmp_path: Path):
    importance = train_importance(["the cat"], ["the dog"], bits=10)
    importance.save(tmp_path)
    loaded = load_importance(tmp_path)
    assert loaded.ratios.tolist() == importance.ratios.tolist() and loaded.order == 2
    assert isinstance(pickle.loads(pickle.dumps(loaded)), Importance)
    (tmp_path / "importance.json").write_text(json.dumps({"features": 0, "order": 2}))
    with pytest.raises(ValueError, match="of version 0"):
        load_importance(tmp_path)
