"""From texts to those that stay: planted near duplicates of known similarity, and orders that change nothing."""

import random

import pytest
from duplicate_cases import edited, near, random_text, true_jaccard

from lmworks.corpus.dedup.near_duplicates import NearDuplicatesConfig

CONFIG = NearDuplicatesConfig(threshold=0.7)


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], dict[tuple[int, int], float]]:
    """500 texts and an edited copy of each; the true similarity of every such pair."""
    generator = random.Random(5)
    originals = [random_text(generator, 200) for _ in range(500)]
    copies = [edited(generator, text, number % 21) for number, text in enumerate(originals)]
    pairs = {(n, n + 500): true_jaccard(a, b) for n, (a, b) in enumerate(zip(originals, copies, strict=True))}
    return originals + copies, pairs


def test_planted_pairs_are_found_and_nothing_else(planted):
    texts, truth = planted
    found, gone = near(texts, CONFIG)
    rows = zip(found.first.tolist(), found.second.tolist(), found.similarity.tolist(), strict=True)
    pairs = {(first, second): value for first, second, value in rows}
    above = {pair for pair, value in truth.items() if value >= CONFIG.threshold}
    assert {round(value, 1) for value in truth.values()} >= {0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert pairs.keys() <= above  # precision 1
    assert all(value == truth[pair] for pair, value in pairs.items())
    far = {pair for pair in above if truth[pair] >= 0.8}
    assert far <= pairs.keys()  # at 0.8 one pair in 9,000 is missed
    assert len(pairs) >= 0.93 * len(above)
    removed = set(gone)
    assert len(removed) == len(pairs) and all(len(removed & set(pair)) == 1 for pair in pairs)
