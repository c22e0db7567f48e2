"""Bradley-Terry strengths are those of choix, and their intervals cover the truth."""

import choix
import numpy as np
import pytest

from lmworks.records import Scored, Unscored
from lmworks.statistics import Vote, bradley_terry

TRUTH = dict(zip("abcd", (0.9, 0.2, -0.3, -0.8), strict=True))


def simulated(seed: int, n: int) -> list[Vote]:
    generator = np.random.default_rng(seed)
    pairs = [generator.choice(list(TRUTH), 2, replace=False) for _ in range(n)]
    first_wins = [1 / (1 + np.exp(TRUTH[j] - TRUTH[i])) for i, j in pairs]
    return [Vote(str(i), str(j), float(generator.uniform() < p)) for (i, j), p in zip(pairs, first_wins, strict=True)]


@pytest.mark.parametrize("prior", [0, 0.1, 1])
def test_strengths_are_those_of_choix_with_a_tie_half_to_each(prior):
    votes = simulated(1, 80)
    place = {player: number for number, player in enumerate(TRUTH)}
    pairs = [(place[vote.first], place[vote.second])[:: 1 if vote.outcome else -1] for vote in votes]
    reference = choix.mm_pairwise(4, pairs, alpha=prior)
    scores = bradley_terry(votes, "s", prior=prior, replicates=50)
    assert [scores[player].value for player in TRUTH] == pytest.approx(reference - reference.mean(), abs=1e-4)
    tie = Vote("a", "d", 0.5)
    assert bradley_terry([*votes, tie], "s", prior=prior, ties=False) == bradley_terry(
        votes, "s", prior=prior, ties=False
    )
    halves = [Vote("a", "d", 1), Vote("a", "d", 0)]
    one, two = (bradley_terry([*votes, *more], "s", prior=0) for more in ([tie, tie], halves))
    assert [score.value for score in one.values()] == pytest.approx([score.value for score in two.values()])


def test_intervals_cover_at_their_nominal_rate():
    covered = [
        score.interval[0] <= TRUTH[player] <= score.interval[1]
        for trial in range(60)
        for player, score in bradley_terry(simulated(trial, 120), "s", replicates=200).items()
        if isinstance(score, Scored)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / len(covered) * 1.33))


def test_players_that_cannot_be_compared_are_refused_or_unscored():
    with pytest.raises(ValueError, match="c, d never met"):
        bradley_terry([Vote("a", "b", 1), Vote("b", "e", 1), Vote("c", "d", 1)], "s")
    votes = [*simulated(1, 80), *[Vote("winner", "a", 1)] * 9]
    scores = bradley_terry(votes, "s")
    assert next(iter(scores)) == "winner" and isinstance(scores["winner"], Unscored)
    assert all(isinstance(scores[player], Scored) for player in TRUTH)
    with pytest.raises(ValueError, match="prior above 0"):
        bradley_terry(votes, "s", prior=0)
    with pytest.raises(ValueError, match="vote 2 "):
        bradley_terry([Vote("a", "b", 1), Vote("a", "b", 2)], "s")


def test_votes_of_one_voter_count_together():
    votes = simulated(2, 300)
    copies = [Vote(vote.first, vote.second, vote.outcome, str(n)) for n, vote in enumerate(votes) for _ in range(5)]
    single, copied = bradley_terry(votes, "s", prior=0), bradley_terry(copies, "s", prior=0)
    for player in TRUTH:
        assert copied[player].interval == pytest.approx(single[player].interval, abs=1e-6)
