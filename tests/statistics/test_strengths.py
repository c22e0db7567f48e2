"""Bradley-Terry strengths are those of choix, and their intervals cover the truth."""

import choix
import numpy as np
import pytest

from lmworks.records import Scored, Unscored
from lmworks.statistics import bradley_terry
from lmworks.statistics.strengths import PRIOR, connected_groups

TRUTH = dict(zip("abcd", (0.9, 0.2, -0.3, -0.8), strict=True))


def simulated(seed: int, n: int) -> tuple[list[tuple[str, str]], list[float]]:
    """Pairs, and whether the first won."""
    generator = np.random.default_rng(seed)
    pairs = [(str(i), str(j)) for i, j in (generator.choice(list(TRUTH), 2, replace=False) for _ in range(n))]
    return pairs, [float(generator.uniform() < 1 / (1 + np.exp(TRUTH[j] - TRUTH[i]))) for i, j in pairs]


def test_strengths_are_those_of_choix_with_a_tie_half_to_each():
    pairs, outcomes = simulated(1, 80)
    place = {player: number for number, player in enumerate(TRUTH)}
    won = [(place[i], place[j])[:: 1 if one else -1] for (i, j), one in zip(pairs, outcomes, strict=True)]
    reference = choix.mm_pairwise(4, won, alpha=PRIOR)
    scores = bradley_terry(pairs, outcomes, "s", replicates=50)
    assert [scores[player].value for player in TRUTH] == pytest.approx(reference - reference.mean(), abs=1e-4)
    more = [*pairs, ("a", "d"), ("a", "d")]
    ties, halves = (bradley_terry(more, [*outcomes, *last], "s", replicates=50) for last in ((0.5, 0.5), (1, 0)))
    assert [score.value for score in ties.values()] == pytest.approx([score.value for score in halves.values()])


def test_intervals_cover_at_their_nominal_rate():
    covered = [
        score.interval[0] <= TRUTH[player] <= score.interval[1]
        for trial in range(60)
        for player, score in bradley_terry(*simulated(trial, 120), "s", replicates=200).items()
        if isinstance(score, Scored)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / len(covered) * 1.33))


def test_players_that_cannot_be_compared_are_refused_or_unscored():
    assert sorted(map(sorted, connected_groups([("a", "b"), ("c", "d"), ("b", "e")]))) == [["a", "b", "e"], ["c", "d"]]
    with pytest.raises(ValueError, match="c, d never met"):
        bradley_terry([("a", "b"), ("b", "e"), ("c", "d")], [1, 1, 1], "s")
    pairs, outcomes = simulated(1, 80)
    scores = bradley_terry([*pairs, *[("winner", "a")] * 9], [*outcomes, *[1] * 9], "s")
    assert next(iter(scores)) == "winner" and isinstance(scores["winner"], Unscored)
    assert all(isinstance(scores[player], Scored) for player in TRUTH)
    with pytest.raises(ValueError, match="vote 2 "):
        bradley_terry([("a", "b"), ("a", "b")], [1, 2], "s")


def test_votes_of_one_voter_count_together():
    pairs, outcomes = simulated(2, 300)
    single = bradley_terry(pairs, outcomes, "s")
    copied = bradley_terry(pairs * 5, outcomes * 5, "s", [*range(300)] * 5)
    for player in TRUTH:
        assert copied[player].interval == pytest.approx(single[player].interval, abs=0.01)
