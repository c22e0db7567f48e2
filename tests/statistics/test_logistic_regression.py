"""The fitted model against scikit-learn's own predictions, and cross-fitting against fitting by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lmworks.statistics.logistic_regression import STRENGTH, cross_fit, fit


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, list[bool]]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, 2)) * [1.0, 10.0] + [0.0, 5.0]
    return features, (features[:, 0] + generator.normal(size=n) > 0.3).tolist()


def test_probabilities_are_those_of_scikit_learn():
    features, outcomes = sample(200)
    standard = (features - features.mean(0)) / features.std(0)
    reference = LogisticRegression(C=STRENGTH).fit(standard, outcomes).predict_proba(standard)[:, 1]
    assert fit(features, outcomes, ["a", "b"]).probability(features) == pytest.approx(reference, abs=1e-12)


def test_a_constant_feature_has_no_say():
    features, outcomes = sample(100)
    features = np.column_stack([features, np.full(100, 7.0)])
    assert fit(features, outcomes, ["a", "b", "c"]).weights[2] == 0.0


def test_one_kind_of_outcome_is_refused():
    with pytest.raises(ValueError, match="all 3 outcomes are True"):
        fit(np.zeros((3, 1)), [True] * 3, ["a"])


def test_a_cross_fitted_model_has_not_seen_its_own_group():
    features, outcomes = sample(60)
    rows = [features[i : i + 3] for i in range(0, 60, 3)]
    labels = [outcomes[i : i + 3] for i in range(0, 60, 3)]
    models = cross_fit(rows, labels, ["a", "b"], folds=len(rows))  # leave one group out
    for group in range(len(rows)):
        others = [i for i in range(len(rows)) if i != group]
        expected = fit(np.vstack([rows[i] for i in others]), [y for i in others for y in labels[i]], ["a", "b"])
        assert models[group].weights == pytest.approx(expected.weights, abs=1e-6)


def test_every_fold_can_be_fitted_however_the_groups_are_ordered():
    rows = [np.full((1, 1), float(i)) for i in range(20)]
    for positives in (range(5), range(15, 20), range(0, 20, 4)):
        labels = [[i in positives] for i in range(20)]
        models = cross_fit(rows, labels, ["a"], folds=2)  # a fold with all positives would leave none to fit on
        assert len(models) == 20
        biases = {model.bias for model in models}
        assert len(biases) == 2 and max(biases) - min(biases) < 0.8  # both folds have their share of positives
