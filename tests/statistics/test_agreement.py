"""Kappa, alpha and rank correlations are those of the reference libraries, and their intervals are honest."""

import krippendorff
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from kit.tables import for_each
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import cohen_kappa, kendall, krippendorff_alpha, spearman

generator = np.random.default_rng(0)
TRUTH = generator.integers(0, 5, 60)
OTHER = np.where(generator.uniform(size=60) < 0.6, TRUTH, generator.integers(0, 5, 60))


def scored(score: Score) -> Scored:
    assert isinstance(score, Scored)
    return score


@for_each("weights", [None, "linear", "quadratic"])
def test_kappa_is_that_of_sklearn(weights):
    score = scored(cohen_kappa(list(TRUTH), list(OTHER), "s", weights=weights))
    assert score.value == pytest.approx(cohen_kappa_score(TRUTH, OTHER, weights=weights), abs=1e-9)
    assert score.interval[0] < score.value < score.interval[1]


def test_weighted_kappa_counts_places_on_the_scale_that_is_given():
    order = ["bad", "fair", "good"]
    first, second = [*order, "bad", "good"], ["bad", "good", "good", "fair", "good"]
    score = scored(cohen_kappa(first, second, "s", weights="linear", categories=order))
    places = [[order.index(word) for word in words] for words in (first, second)]
    assert score.value == pytest.approx(cohen_kappa_score(*places, weights="linear"), abs=1e-9)
    with pytest.raises(ValueError, match="item 2 is rated 'poor'"):
        cohen_kappa(["bad", "poor"], ["bad", "bad"], "s", categories=order)


@for_each("level", ["nominal", "ordinal", "interval"])
def test_alpha_with_missing_ratings_is_that_of_krippendorff(level):
    noise, missing = generator.integers(-1, 2, (60, 4)), generator.uniform(size=(60, 4)) < 0.4
    table = np.where(missing, np.nan, np.clip(TRUTH[:, None] + noise, 0, 4))
    rows = [[None if np.isnan(value) else int(value) for value in row] for row in table]
    score = scored(krippendorff_alpha(rows, "s", level=level))
    assert score.value == pytest.approx(krippendorff.alpha(table.T, level_of_measurement=level), abs=1e-9)
    assert score.n == ((~missing).sum(axis=1) > 1).sum()


@for_each(("ours", "reference"), [(spearman, stats.spearmanr), (kendall, stats.kendalltau)])
def test_rank_correlations_are_those_of_scipy_and_follow_clusters(ours, reference):
    first, second = list(map(float, TRUTH)), list(TRUTH + generator.normal(size=60))
    score = scored(ours(first, second, "s"))
    assert score.value == pytest.approx(reference(first, second)[0], abs=1e-12)
    if ours is kendall:
        return  # shares the bootstrap
    twice = scored(ours(first * 2, second * 2, "s", [*range(60), *range(60)]))  # every item twice tells nothing new
    assert twice.interval == pytest.approx(score.interval, abs=0.05)
    naive = scored(ours(first * 2, second * 2, "s"))
    assert np.diff(naive.interval) < 0.85 * np.diff(twice.interval)


def test_where_nothing_varies_there_is_no_coefficient():
    for score in (
        cohen_kappa([1, 1], [1, 1], "s"),
        krippendorff_alpha([[1, 1], [1, 1]], "s", level="interval"),
        krippendorff_alpha([[1, None], [None, 2]], "s"),
        spearman([1, 1, 1], [1, 2, 3], "s"),
        kendall([1, 2, 3], [4, 4, 4], "s"),
        kendall([], [], "s"),
    ):
        assert isinstance(score, Unscored)


def test_complete_agreement_of_few_items_is_not_certain():
    for score in (cohen_kappa([1, 2, 1], [1, 2, 1], "s"), kendall([1, 2, 3], [2, 3, 4], "s")):
        assert scored(score).value == 1 and scored(score).interval[0] < 0.5
    assert scored(spearman([1, 2, 3], [3, 2, 1], "s")).interval[0] == -1
