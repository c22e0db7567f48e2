"""Strengths of players that are compared in pairs: the Bradley-Terry model, for judges and people who compare systems.

bradley_terry([("new", "old"), ("old", "new"), ("new", "old")], [1, 0.5, 0], "arena 1")     # {"new": Scored(...), ...}
"""

from collections.abc import Sequence

import numpy as np

from lmworks.records import Score, Scored, Unscored
from lmworks.statistics.intervals import Clusters, cluster_sums, percentiles, replicate_sums
from lmworks.statistics.scores import sign

PRIOR = 0.1


def connected_groups(pairs: Sequence[tuple[str, str]]) -> list[set[str]]:
    """The groups of players who met, directly or through a chain: the only ones whose strengths can be compared."""
    groups: list[set[str]] = []
    for pair in pairs:
        joined = [group for group in groups if not group.isdisjoint(pair)]
        groups = [group for group in groups if group not in joined] + [set(pair).union(*joined)]
    return groups


def bradley_terry(
    pairs: Sequence[tuple[str, str]],
    outcomes: Sequence[float],
    signature: object,
    clusters: Clusters = None,
    *,
    replicates: int = 1000,
) -> dict[str, Score]:
    """Strengths b of players, the strongest first, P(i beats j) = 1 / (1 + exp(b_j - b_i)), with 95 % intervals over
    comparisons or clusters of them (a voter, a prompt).

    An outcome is 1 where the first of the pair is better, 0 where the second is, and 0.5 for a tie, half a win to each.
    Strengths are natural logarithms less their mean (times 400 / ln 10 for Elo's scale), by MM (Hunter 2004), at the
    mode under a prior Gamma(1 + PRIOR, PRIOR) of exp(b) (Caron & Doucet 2012): without one, resamples in which a player
    wins all have no finite strengths. `n` counts a player's comparisons. Players who, other than the most, never both
    won and lost against the others, directly or through a chain, are unscored: there is no bound to their strength.
    ValueError where players never met, even through a chain: see `connected_groups`.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    for number, (pair, outcome) in enumerate(zip(pairs, outcomes, strict=True), 1):
        if outcome not in (0.0, 0.5, 1.0) or pair[0] == pair[1]:
            raise ValueError(f"vote {number} needs two players and an outcome of 0, 0.5 or 1, got {pair}, {outcome}")
    if not pairs:
        return {}
    players = sorted({player for pair in pairs for player in pair})
    k, first_won = len(players), np.array(outcomes, dtype=np.float64)
    first, second = np.searchsorted(players, np.array(pairs)).T
    cells = (np.tile(np.arange(len(pairs)), 2), np.concatenate([first * k + second, second * k + first]))
    rows = cluster_sums(
        csr_array((np.concatenate([first_won, 1 - first_won]), cells), shape=(len(pairs), k * k)), clusters
    )
    wins = np.asarray(rows.sum(axis=0)).reshape(k, k)  # of i over j
    if len(groups := connected_groups(pairs)) > 1:
        apart = ", ".join(sorted(min(groups, key=len)))
        raise ValueError(f"{apart} never met the other players, even through a chain: have them compared, or left out")
    component = connected_components(wins > 0, connection="strong")[1]
    strongly_connected = component == np.bincount(component).argmax()

    def strengths(sums: np.ndarray) -> np.ndarray:  # (..., k * k) -> (..., k)
        b = _mode(sums.reshape(*sums.shape[:-1], k, k))
        return b - b[..., strongly_connected].mean(axis=-1, keepdims=True)

    value = strengths(wins.reshape(-1))
    samples = np.concatenate([*replicate_sums(rows, strengths, 0, replicates)])  # (replicates, k)
    signed = sign(["bradley-terry", True, PRIOR, signature])
    scores: dict[str, Score] = {}
    for i in np.argsort(-value, kind="stable"):
        won, n = wins[i].sum(), (wins[i] + wins[:, i]).sum()
        if strongly_connected[i] and strongly_connected.sum() > 1 and rows.shape[0] > 1:
            interval = percentiles(samples[:, i], rows.shape[0])
            scores[players[i]] = Scored(float(value[i]), interval, round(n), signed)
        else:
            scores[players[i]] = Unscored(f"won {won:g} of {n:g} votes, which do not bound its strength: collect more")
    return scores


def _mode(wins: np.ndarray) -> np.ndarray:
    """Logarithms of the weights at the mode, (..., k, k) -> (..., k)."""
    games, won = wins + wins.swapaxes(-1, -2), wins.sum(axis=-1)
    weight, change = np.ones_like(won), np.inf
    while change > 1e-9:
        against = (games / (weight[..., :, None] + weight[..., None, :])).sum(axis=-1)
        new = (won + PRIOR) / (against + PRIOR)
        new /= new.mean(axis=-1, keepdims=True)  # as it is at the mode
        change, weight = np.abs(np.log(new / weight)).max(), new
    return np.log(weight)
