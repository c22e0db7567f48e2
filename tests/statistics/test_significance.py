"""Tests agree with the reference libraries and closed forms, and hold their level on simulated systems."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from kit.tables import for_each
from lmworks.evaluate.metric import ratio
from lmworks.statistics import (
    bootstrap_interval,
    holm,
    mcnemar,
    mean_score,
    non_inferiority,
    paired_interval,
    permutation_test,
    ratio_score,
)


def rows(values):
    return np.column_stack([values, np.ones(len(values))])


def within(rate: float, nominal: float, trials: int) -> bool:
    return abs(rate - nominal) <= 3 * np.sqrt(nominal * (1 - nominal) / trials)


@for_each(("b", "c"), [(1, 9), (4, 7), (0, 3), (12, 2)])
def test_mcnemar_is_that_of_statsmodels(b, c):
    first, second = [1] * b + [0] * c + [1] * 20, [0] * b + [1] * c + [1] * 20
    exact = reference_mcnemar([[20, b], [c, 0]], exact=True).pvalue
    assert mcnemar(first, second) == pytest.approx(exact - stats.binom.pmf(min(b, c), b + c, 0.5), abs=1e-12)
    # swapping 0 and 1 is the same test
    assert permutation_test(rows(first), rows(second), ratio) == pytest.approx(exact, abs=1e-12 if b + c < 14 else 0.01)
    assert mcnemar([1, 0], [1, 0]) == 1 and mcnemar([1, 0], [0, 1]) == pytest.approx(1)


def test_holm_is_that_of_statsmodels():
    p = [0.04, 0.001, 0.03, 0.03, 0.8]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)
    assert holm([]) == []


def test_permutation_of_few_items_is_exact_and_that_of_many_is_scipys():
    generator = np.random.default_rng(0)
    for n, tolerance in ((10, 1e-12), (40, 0.015)):
        first, second = generator.normal(0.4, 1, n), generator.normal(0, 1, n)
        many = {"n_resamples": np.inf if n == 10 else 20_000, "permutation_type": "samples"}
        p = stats.permutation_test((first, second), lambda a, b: np.mean(a - b), **many, rng=1).pvalue
        assert permutation_test(rows(first), rows(second), ratio) == pytest.approx(p, abs=tolerance)


def test_approximate_randomisation_of_corpus_bleu_is_that_of_sacrebleu():
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    generator = np.random.default_rng(1)
    words = np.array("the a cat dog sat ran on under mat tree".split())
    references = [" ".join(generator.choice(words, 12)) for _ in range(60)]

    def worse(rate):
        return [" ".join(w if generator.uniform() > rate else "red" for w in text.split()) for text in references]

    systems, bleu = [worse(0.25), worse(0.30)], BLEU()

    def sums(texts):
        found = [bleu.corpus_score([text], [[reference]]) for text, reference in zip(texts, references, strict=True)]
        return np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in found], dtype=np.float64)

    def corpus(total):
        parts = np.atleast_2d(total)
        return np.array(
            [BLEU.compute_bleu(list(s[:4]), list(s[4:8]), int(s[8]), int(s[9])).score for s in parts]
        ).reshape(total.shape[:-1])

    ours = permutation_test(sums(systems[0]), sums(systems[1]), corpus, replicates=2000)
    named = [("one", systems[0]), ("two", systems[1])]
    test = PairedTest(named, {"BLEU": bleu}, [references], test_type="ar", n_samples=2000)
    assert ours == pytest.approx(test()[1]["BLEU"][1].p_value, abs=4 * np.sqrt(0.25 / 2000))


@for_each("clustered", [False, True])
def test_the_permutation_test_holds_its_level(clustered):
    """Documents differ in what suits a system: their questions swapped one by one would claim too much."""
    generator, trials, rejected = np.random.default_rng(2), 400, np.zeros(2)
    clusters = list(np.repeat(np.arange(15), 4)) if clustered else None
    for trial in range(trials):
        document = np.repeat(generator.normal(0, 1, 15), 4) if clustered else 0.0
        first, second = rows(generator.normal(size=60) + document), rows(generator.normal(size=60))
        for way, groups in enumerate((clusters, None)):
            rejected[way] += permutation_test(first, second, ratio, groups, seed=trial, replicates=300) < 0.05
    assert within(rejected[0] / trials, 0.05, trials)
    assert not clustered or rejected[1] / trials > 0.12


def test_intervals_of_few_items_cover_at_their_level():
    """Of means and ratios of 20 and 30 items, and proportions near 1: where the percentile bootstrap covers less."""
    generator, trials = np.random.default_rng(3), 500
    covered = np.zeros(4)
    for trial in range(trials):
        low, high = bootstrap_interval(rows(generator.normal(size=20)), ratio, seed=trial, replicates=400)
        covered[0] += low <= 0 <= high
        score = mean_score(list((generator.uniform(size=30) < 0.95).astype(float)), "s")
        covered[1] += score.interval[0] <= 0.95 <= score.interval[1]
        whole = generator.integers(1, 9, 25)
        part = generator.binomial(whole, generator.beta(4.5, 0.5, 25))
        score = ratio_score(list(part), list(whole), "s", proportion=True)
        covered[2] += score.interval[0] <= 0.9 <= score.interval[1]
        first, second = generator.uniform(size=(2, 30)) < 0.9
        low, high = paired_interval(rows(first * 1.0), rows(second * 1.0), ratio)
        covered[3] += low <= 0 <= high
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)
    assert (covered / trials >= least).all() and (covered / trials <= 0.99).all(), covered / trials


def test_non_inferiority_is_claimed_wrongly_no_more_often_than_alpha():
    generator, trials = np.random.default_rng(4), 150
    claimed = np.zeros(2)
    for _ in range(trials):
        old = generator.normal(size=40)
        claimed[0] += non_inferiority(rows(old + generator.normal(-0.3, 1, 40)), rows(old), ratio, 0.3).holds is True
        right = generator.uniform(size=60) < 0.9
        kept = right & (generator.uniform(size=60) < 0.8 / 0.9)  # worse by exactly the margin
        claimed[1] += non_inferiority(rows(kept * 1.0), rows(right * 1.0), ratio, 0.1).holds is True
    assert (claimed / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)).all(), claimed / trials
    assert claimed[0] > 0


@pytest.mark.slow
def test_the_items_said_to_be_needed_are_enough_for_equal_systems():
    generator = np.random.default_rng(5)

    def systems(n):
        old = generator.normal(size=n)
        return rows(old + generator.normal(0, 1, n)), rows(old)

    needed = int(np.median([non_inferiority(*systems(50), ratio, 0.2).needed or 0 for _ in range(20)]))
    held = np.mean([non_inferiority(*systems(needed), ratio, 0.2).holds is True for _ in range(200)])
    assert held == pytest.approx(0.8, abs=0.12)


def test_systems_that_differ_on_no_item_are_not_surely_equal():
    same = rows(np.array([0.0, 1, 1, 0, 1]))
    assert paired_interval(same, same, ratio)[0] < -0.2 and permutation_test(same, same, ratio) == 1
    numbers = rows(np.array([2.0, 4.0, 7.0]))
    assert paired_interval(numbers, numbers, ratio)[1] > 1
