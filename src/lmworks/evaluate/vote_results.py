"""Results of votes: counts, strengths of systems, whether a difference can be told, agreement of the annotators."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.records import Score, Unscored, Vote
from lmworks.statistics.agreement import cohen_kappa, krippendorff_alpha
from lmworks.statistics.scores import mean_score
from lmworks.statistics.strengths import Vote as Comparison
from lmworks.statistics.strengths import bradley_terry

FEWEST = 10  # pairs of answers below which nothing is said about who is better
_NORMAL = 1.960 + 0.842  # standard normal quantiles: an interval of 95 % that leaves out 0.5 in 80 % of such samples


@dataclass(frozen=True, slots=True)
class Standing:
    """Votes on the answers of one system, and its Bradley-Terry strength in log-odds around a mean of 0."""

    system: str
    wins: int
    losses: int
    ties: int
    both_bad: int
    strength: Score


@dataclass(frozen=True, slots=True)
class Duel:
    """Two systems: the share of votes for the first, ties half; `verdict` is a sentence."""

    systems: tuple[str, str]
    pairs: int
    share: Score
    verdict: str


@dataclass(frozen=True, slots=True)
class Summary:
    total: int
    standings: tuple[Standing, ...]
    duels: tuple[Duel, ...]
    agreement: str  # "" where no two annotators voted on one pair


def summary(votes: Sequence[Vote]) -> Summary:
    """The results of the standing votes, the strongest system first."""
    return Summary(len(votes), _standings(votes), _duels(votes), _agreement(votes))


def _duels(votes: Sequence[Vote]) -> tuple[Duel, ...]:
    by_systems: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        if vote.systems[0] != vote.systems[1]:
            by_systems.setdefault(tuple(sorted(vote.systems)), []).append(vote)  # type: ignore[arg-type]
    return tuple(_duel(systems, of_both) for systems, of_both in sorted(by_systems.items()))


def _duel(systems: tuple[str, str], votes: Sequence[Vote]) -> Duel:
    """The interval resamples pairs of answers, with all the votes on each."""
    shares = [vote.share if vote.systems == systems else 1 - vote.share for vote in votes]
    pairs = [vote.pair for vote in votes]
    share, n = mean_score(shares, ["votes", systems], pairs), len(set(pairs))
    return Duel(systems, n, share, _verdict(systems, share, n, float(np.std(shares))))


def _verdict(systems: tuple[str, str], share: Score, pairs: int, deviation: float) -> str:
    if isinstance(share, Unscored) or pairs < FEWEST:
        return f"Cannot tell yet: {FEWEST - pairs} more pairs at least."
    better = systems[0] if share.value > 0.5 else systems[1]
    if not share.interval[0] <= 0.5 <= share.interval[1]:
        return f"{better} is preferred."
    lean = abs(share.value - 0.5)
    more = math.ceil((_NORMAL * deviation / lean) ** 2) - pairs if lean else math.inf
    if more > 100 * pairs:
        return "Cannot tell yet, and nothing points to either: more votes will hardly change that."
    return f"Cannot tell yet: about {max(more, 1)} more pairs, if {better} stays ahead as now."


def _standings(votes: Sequence[Vote]) -> tuple[Standing, ...]:
    counts = {name: Counter[str]() for name in sorted({name for vote in votes for name in vote.systems})}
    for vote in votes:
        won = {"first": 0, "second": 1}.get(vote.choice or "")
        for place, name in enumerate(vote.systems):
            counts[name]["win" if won == place else "loss" if won is not None else str(vote.choice)] += 1
    met = [Comparison(*vote.systems, vote.share, vote.pair) for vote in votes if vote.systems[0] != vote.systems[1]]
    try:
        strengths = bradley_terry(met, "votes")
    except ValueError as error:  # systems that never met
        strengths = dict.fromkeys(counts, Unscored(str(error)))
    ranked = [*strengths, *(name for name in counts if name not in strengths)]
    alone = Unscored("it was compared with itself alone")
    rows = [(name, counts[name], strengths.get(name, alone)) for name in ranked]
    return tuple(Standing(name, c["win"], c["loss"], c["tie"], c["both bad"], strength) for name, c, strength in rows)


def _agreement(votes: Sequence[Vote]) -> str:
    """Agreement on the pairs of answers that several voted on; a tie and "both bad" are verdicts of their own."""
    of_pair: dict[str, dict[str, str]] = {}
    for vote in votes:
        of_pair.setdefault(vote.pair, {})[vote.provenance.annotator or "nobody's name"] = str(vote.choice)
    shared = [named for named in of_pair.values() if len(named) > 1]
    names = sorted({name for named in shared for name in named})
    if not shared:
        return ""
    equal = sum(len(set(named.values())) == 1 for named in shared)
    if len(names) == 2:
        first, second = ([named[name] for named in shared] for name in names)
        statistic, value = "Cohen's kappa", cohen_kappa(first, second, "votes")
    else:
        ratings = [[named.get(name) for name in names] for named in shared]
        statistic, value = "Krippendorff's alpha", krippendorff_alpha(ratings, "votes")
    return f"{' and '.join(names)} agree on {equal} of {len(shared)} pairs of answers; {statistic} {value}."
