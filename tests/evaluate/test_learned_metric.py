"""The learned metric: ridge against scikit-learn, and a planted quality that it finds on documents it did not see."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from lmworks.artefact import read_json
from lmworks.build import run_alone
from lmworks.evaluate.learned_metric import HEAD, learned_quality, load_learned, ridge
from lmworks.evaluate.metric import Item, Response
from lmworks.records import Unscored

WORDS = "the river tower city winter people built in stone and called it after their king".split()


def test_ridge_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    features, goals = generator.normal(3, 2, (40, 7)), generator.normal(size=40)
    weights, bias = ridge(features, goals, 5.0)
    scaled = StandardScaler().fit_transform(features)
    np.testing.assert_allclose(features @ weights + bias, Ridge(5.0).fit(scaled, goals).predict(scaled), atol=1e-6)


def write(path: Path) -> list[dict]:
    """Copies of a sentence in which so many words as the rating says are wrong."""
    generator, rows = np.random.default_rng(0), []
    for document in range(15):
        sentence = list(generator.permutation(WORDS))
        for wrong in range(6):
            places = generator.choice(len(sentence), wrong, replace=False)
            candidate = [f"x{document}" if place in places else word for place, word in enumerate(sentence)]
            source = {"source": f"planted/{document}"}
            texts = {"prompt": " ".join(sentence), "completion": " ".join(candidate)}
            rows.append({**texts, "rating": -float(wrong), "provenance": source})
    path.write_text("\n".join(map(json.dumps, rows)))
    return rows


@pytest.fixture(scope="module")
def artefact(minilm, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    write(folder / "rows.jsonl")
    settings = [f'rows=["{folder / "rows.jsonl"}"]', f'base="{minilm}"', 'baselines=["bleu", "bertscore"]']
    return run_alone("evaluate.learned", folder / "made", [], [], settings).folder


def test_it_orders_documents_that_it_did_not_see(artefact):
    card = read_json(artefact / "card.json")
    assert card["documents"] == 12 and len(card["held_out"]) == 3 and card["held_out_rows"] == 18
    assert card["spearman"]["learned-quality"]["value"] > 0.9
    assert set(card["kendall"]) == {"learned-quality", "bleu", "bertscore"}


@pytest.mark.slow
def test_the_ratings_held_out_change_nothing_that_is_learned(artefact, minilm, tmp_path):
    held_out = read_json(artefact / "card.json")["held_out"]
    rows = [
        row | {"rating": 9.0 * number if row["provenance"]["source"] in held_out else row["rating"]}
        for number, row in enumerate(write(tmp_path / "rows.jsonl"))
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = [f'rows=["{tmp_path / "rows.jsonl"}"]', f'base="{minilm}"', "baselines=[]"]
    other = run_alone("evaluate.learned", tmp_path / "made", [], [], settings).folder
    with np.load(artefact / HEAD) as first, np.load(other / HEAD) as second:
        assert all((first[name] == second[name]).all() for name in first)


def test_an_artefact_measures_alone(artefact):
    metric = learned_quality(load_learned(artefact))
    text = " ".join(WORDS)
    items = [
        Item("a", references=("x y z", text)),
        Item("b", contexts=(text,)),
        Item("c"),
        Item("d", references=(text,)),
    ]
    best, same, nothing, empty = metric.measure(items, [Response(text)] * 3 + [Response(" ")])
    assert best == pytest.approx(same) and best > -1.5
    assert isinstance(nothing, Unscored) and isinstance(empty, Unscored)
    assert metric.signature["learned"]
