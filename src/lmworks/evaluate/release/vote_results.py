"""Results of votes: counts, strengths of systems, whether a difference is significant, agreement of the annotators."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lmworks.artefact import hash_json
from lmworks.evaluate.release.votes import Vote
from lmworks.records import Score, Scored, Unscored
from lmworks.report import Figure, Section, Table, dot_plot
from lmworks.statistics.agreement import cohen_kappa, krippendorff_alpha
from lmworks.statistics.scores import mean_score
from lmworks.statistics.strengths import bradley_terry, connected_groups

FEWEST = 10  # pairs of answers below which nothing is said about who is better
_NORMAL = 1.960 + 0.842  # standard normal quantiles: an interval of 95 % that leaves out 0.5 in 80 % of such samples
_COUNTS = ("wins", "losses", "ties", "both bad")
_OF = {"first": ("wins", "losses"), "second": ("losses", "wins"), "tie": ("ties", "ties")}
_SYSTEMS = "Votes by system. Strengths are Bradley–Terry's, log-odds around their mean; a tie is half a win of each."
_DUELS = "Two systems: the share of votes for the first, ties half. Pairs of answers are resampled with their votes."


def summary(votes: Sequence[Vote]) -> Section:
    """The results of votes on two answers each: a table for each group of systems that met, with a figure where there
    are strengths, a table of each two systems, and the agreement."""
    counts = {name: Counter[str]() for name in sorted({name for vote in votes for name in vote.systems})}
    by_systems: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        by_systems.setdefault(tuple(sorted(vote.systems)), []).append(vote)  # type: ignore[arg-type]
        for name, kind in zip(vote.systems, _OF.get(vote.choice or "", ("both bad", "both bad")), strict=True):
            counts[name][kind] += 1
    tables, figures = [], []
    connected = connected_groups([(one.systems[0], one.systems[1]) for one in votes])
    groups = [[one for one in votes if one.systems[0] in group] for group in connected]
    for number, of in enumerate(sorted(groups, key=len, reverse=True), 1):
        names, shares = [(one.systems[0], one.systems[1]) for one in of], [one.share for one in of]
        strengths = bradley_terry(names, shares, "votes", _prompts(of))
        rows = tuple((name, one, *(counts[name][kind] for kind in _COUNTS)) for name, one in strengths.items())
        apart = f" Group {number} of {len(groups)}: no vote compares it with another group." * (len(groups) > 1)
        tables.append(Table(("system", "strength", *_COUNTS), rows, _SYSTEMS + apart))
        if scored := {name: (one.value, *one.interval) for name, one in strengths.items() if isinstance(one, Scored)}:
            caption = f"Strengths, 95 % intervals.{apart}"
            figures.append(Figure(dot_plot({"": scored}, x="strength, log-odds"), caption))
    duels = tuple((*names, *_duel(names, both)) for names, both in by_systems.items())
    tables.append(Table(("first", "second", "pairs", "share", "better"), duels, _DUELS))
    return Section("Results of votes", agreement(votes), tuple(tables), tuple(figures))


def _duel(systems: tuple[str, str], votes: Sequence[Vote]) -> tuple[int, Score, str]:
    """The number of pairs of answers, the share of votes for the first system, and what can be said."""
    shares = [vote.share if vote.systems == systems else 1 - vote.share for vote in votes]
    pairs = _prompts(votes)
    share, n = mean_score(shares, ["votes", systems], pairs), len(set(pairs))
    if isinstance(share, Unscored) or n < FEWEST:
        return n, share, f"cannot tell yet: {FEWEST - n} more pairs at least"
    better, lean = systems[0] if share.value > 0.5 else systems[1], abs(share.value - 0.5)
    more = math.ceil((_NORMAL * float(np.std(shares)) / lean) ** 2) - n if lean else math.inf
    verdict = f"cannot tell yet: about {max(more, 1)} more pairs, if {better} stays ahead as now"
    if not share.interval[0] <= 0.5 <= share.interval[1]:
        verdict = f"{better} is preferred"
    elif more > 100 * n:
        verdict = "cannot tell yet, and nothing points to either: more votes will hardly change that"
    return n, share, verdict


def _prompts(votes: Sequence[Vote]) -> list[str]:
    """The prompt of each vote: those on one are resampled together."""
    return [hash_json(vote.prompt) for vote in votes]


def agreement(votes: Sequence[Vote]) -> str:
    """Agreement of each two on the pairs of answers that both voted on, and of all; "tie" and "both bad" are verdicts,
    too. Pairs of one prompt are resampled together."""
    of: dict[str, dict[str, str]] = {}
    prompts: dict[str, str] = {}
    for vote, prompt in zip(votes, _prompts(votes), strict=True):
        of.setdefault(vote.provenance.annotator or "nobody's name", {})[pair := vote.id] = str(vote.choice)
        prompts[pair] = prompt
    lines = []
    for one, two in combinations(sorted(of), 2):
        if both := [pair for pair in of[one] if pair in of[two]]:
            first, second = ([of[name][pair] for pair in both] for name in (one, two))
            equal = sum(a == b for a, b in zip(first, second, strict=True))
            kappa = cohen_kappa(first, second, "votes", [prompts[pair] for pair in both])
            lines.append(f"{one} and {two} agree on {equal} of {len(both)} pairs of answers; Cohen's kappa {kappa}.")
    if len(of) > 2 and lines:
        pairs = sorted(prompts)
        ratings = [[verdicts.get(pair) for verdicts in of.values()] for pair in pairs]
        alpha = krippendorff_alpha(ratings, "votes", [prompts[pair] for pair in pairs])
        lines.append(f"Of all {len(of)}: Krippendorff's alpha {alpha}.")
    return "\n".join(lines)
