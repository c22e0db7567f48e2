"""Strengths of players from votes on pairs of them: the Bradley-Terry model, for judges and people who compare systems.

votes = [Vote("new", "old", 1.0), Vote("old", "new", 0.5), Vote("new", "old", 0.0)]
bradley_terry(votes, "arena 1")     # {"new": Scored(...), "old": Scored(...)}, the strongest first
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.records import Score, Scored, Unscored
from lmworks.statistics.intervals import cluster_sums, percentiles, replicate_sums
from lmworks.statistics.scores import sign


@dataclass(frozen=True, slots=True)
class Vote:
    """Comparison of two players: `outcome` 1 where the first is better, 0 where the second is, 0.5 for a tie.

    Votes of one cluster (a voter, a prompt) are resampled together; "": the vote is its own.
    """

    first: str
    second: str
    outcome: float
    cluster: str = ""


def bradley_terry(
    votes: Sequence[Vote], signature: object, *, ties: bool = True, prior: float = 0.1, replicates: int = 1000
) -> dict[str, Score]:
    """Strengths b of players, P(i beats j) = 1 / (1 + exp(b_j - b_i)), with 95 % intervals over votes or clusters.

    Natural logarithms less their mean (times 400 / ln 10 for Elo's scale), by MM (Hunter 2004). A tie is half a win to
    each; `ties=False` leaves ties out. `prior` is the Gamma(1 + prior, prior) of exp(b) (Caron & Doucet 2012): without
    one, resamples in which a player wins all have no finite strengths. `n` counts a player's votes. Players who, other
    than the most, never both won and lost against the others, directly or through a chain, are unscored: there is no
    bound to their strength. ValueError where players never met, even through a chain.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    for number, vote in enumerate(votes, 1):
        if vote.outcome not in (0.0, 0.5, 1.0) or vote.first == vote.second:
            raise ValueError(f"vote {number} needs two players and an outcome of 0, 0.5 or 1, got {vote}")
    votes = [vote for vote in votes if ties or vote.outcome != 0.5]
    if not votes:
        return {}
    players = sorted({player for vote in votes for player in (vote.first, vote.second)})
    place, k, numbers = {player: i for i, player in enumerate(players)}, len(players), np.arange(len(votes))
    one, two = (np.array([place[getattr(vote, side)] for vote in votes]) for side in ("first", "second"))
    outcome = np.array([vote.outcome for vote in votes])
    cells = (np.tile(numbers, 2), np.concatenate([one * k + two, two * k + one]))
    rows = csr_array((np.concatenate([outcome, 1 - outcome]), cells), shape=(len(votes), k * k))
    rows = cluster_sums(rows, [vote.cluster or number for number, vote in enumerate(votes)])
    wins = np.asarray(rows.sum(axis=0)).reshape(k, k)  # of i over j
    count, part = connected_components(wins > 0, connection="weak")
    if count > 1:
        apart = ", ".join(player for player, of in zip(players, part, strict=True) if of == np.bincount(part).argmin())
        raise ValueError(f"{apart} never met the other players, even through a chain: have them compared, or left out")
    part = connected_components(wins > 0, connection="strong")[1]
    kept = part == np.bincount(part).argmax()
    if not (prior or kept.all()):
        raise ValueError("some players won or lost all votes against others: strengths are finite with a prior above 0")

    def strengths(sums: np.ndarray) -> np.ndarray:  # (..., k * k) -> (..., k)
        b = _mode(sums.reshape(*sums.shape[:-1], k, k), prior)
        return b - b[..., kept].mean(axis=-1, keepdims=True)

    value = strengths(wins.reshape(-1))
    samples = np.concatenate(list(replicate_sums(rows, strengths, 0, replicates)))  # (replicates, k)
    signed = sign(["bradley-terry", ties, prior, signature])
    scores: dict[str, Score] = {}
    for i in np.argsort(-np.nan_to_num(value), kind="stable"):
        won, n = wins[i].sum(), (wins[i] + wins[:, i]).sum()
        if kept[i] and kept.sum() > 1 and rows.shape[0] > 1:
            interval = percentiles(samples[:, i], rows.shape[0])
            scores[players[i]] = Scored(float(value[i]), interval, round(n), signed)
        else:
            scores[players[i]] = Unscored(f"won {won:g} of {n:g} votes, which do not bound its strength: collect more")
    return scores


def _mode(wins: np.ndarray, prior: float, tolerance: float = 1e-9, most: int = 20_000) -> np.ndarray:
    """Logarithms of the weights at the mode, (..., k, k) -> (..., k); NaN where `most` steps do not reach it."""
    games, won = wins + wins.swapaxes(-1, -2), wins.sum(axis=-1)
    weight, change = np.ones_like(won), np.ones_like(won)
    for _ in range(most):
        against = (games / (weight[..., :, None] + weight[..., None, :])).sum(axis=-1)
        new = (won + prior) / (against + prior)
        new /= new.mean(axis=-1, keepdims=True)  # as it is at the mode under a prior, and free without one
        with np.errstate(divide="ignore", invalid="ignore"):  # resamples without a mode, where there is no prior
            change = np.abs(np.log(new / weight)).max(axis=-1)
        weight = new
        if not (change > tolerance).any():
            break
    return np.log(np.where((change <= tolerance)[..., None], weight, np.nan))
