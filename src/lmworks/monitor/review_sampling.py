"""Interactions for review, drawn by rules with known probabilities, and estimates of all traffic from those reviewed.

Each rule draws every interaction that it applies to by itself, with its rate (Poisson sampling), by a number that is a
hash of rule and interaction: drawn again, over whatever window, the same ones come out, and a thumb that comes a week
late adds its interaction. An interaction to which the rules r apply is drawn with probability 1 - prod(1 - rate_r);
one over that is its weight (Horvitz & Thompson 1952). Alarms and people add what they like with weight 1: it stands for
itself alone, and for nothing that was not chosen.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lmworks.artefact import hash_json
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.experiment import uniform
from lmworks.monitor.log import Log, Reader
from lmworks.records import Score, Unscored
from lmworks.statistics.intervals import proportion_interval, wilson_interval
from lmworks.statistics.scores import interval_score

FEWEST = 30  # reviews of an estimate
WEEK = 7 * 86400.0
_REFERENCE_WEEKS = 4
_REFERENCE = 2000  # questions that new ones are compared with, at most
_NOVEL = 0.99  # quantile of the distances within the reference from which a question is new


def review_id(interaction: str) -> str:
    """The id of its place in the queue, whose order is that of no property of the interaction."""
    return hash_json(["review", interaction])[:32]


def fill(log: Log, config: ReviewConfig, now: float, days: float = 7.0) -> Counter[str]:
    """Draw from the interactions of the last `days`; how many each rule added, and `""` those of which the weight fell
    since a further rule applies. Repeating it changes nothing."""
    reader, since = log.reader, now - days * 86400
    window = f"since:{_iso(since)} until:{_iso(now)} -operation:embeddings -operation:evaluation"
    some = {name: _applies(reader, rule, window, since, config) for name, rule in config.rules.items()}
    added: Counter[str] = Counter()
    for batch in reader.column_batches(["id"], window, 5000):
        drawn: dict[str, tuple[str, float]] = {}
        for interaction in batch["id"]:
            rules = [name for name, ids in some.items() if ids is None or interaction in ids]
            hits = [name for name in rules if uniform(name, interaction) < config.rules[name].rate]
            if hits:
                drawn[interaction] = hits[0], 1 / (1 - math.prod(1 - config.rules[name].rate for name in rules))
        where = f"interaction IN ({', '.join('?' * len(drawn)) or 'NULL'})"
        before: dict[str, float] = dict(reader.rows("reviews", "interaction, weight", where, list(drawn)))  # type: ignore[arg-type]
        new = [_row(interaction, *draw, now) for interaction, draw in drawn.items() if interaction not in before]
        log.append("reviews", new).result()
        added.update(str(row["rule"]) for row in new)
        for interaction, (_, weight) in drawn.items():
            if weight < before.get(interaction, 0.0) - 1e-9:
                log.update("reviews", {"weight": weight}, "interaction = ?", [interaction]).result()
                added[""] += 1
    return added


def enqueue(log: Log, interactions: Sequence[str], rule: str, now: float) -> int:
    """Put interactions into the queue that an alarm, or a person, chose; how many were not in it yet."""
    added = log.append("reviews", [_row(interaction, rule, 1.0, now) for interaction in interactions]).result()
    for interaction in interactions:
        log.update("reviews", {"weight": 1.0}, "interaction = ? AND weight > 1", [interaction]).result()
    return added


def _row(interaction: str, rule: str, weight: float, now: float) -> dict[str, Any]:
    about = {"interaction": interaction, "rule": rule, "weight": weight, "time": now}
    return {"id": review_id(interaction), **about}


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _applies(reader: Reader, rule: ReviewRule, window: str, since: float, config: ReviewConfig) -> set[str] | None:
    """The interactions of the window that a rule applies to; None for all of them."""
    if rule.kind == "disagreement":
        disagreement = "((o.value >= 0.5 AND i.thumbs = 'down') OR (o.value < 0.5 AND i.thumbs = 'up'))"
        where = f"o.name = ? AND i.time >= ? AND {disagreement}"
        joined = "outcomes o JOIN interactions i ON i.id = o.interaction"
        return {row[0] for row in reader.rows(joined, "DISTINCT i.id", where, [config.judge, since])}
    if rule.kind == "novelty":
        return set(_novel(reader, window, since))
    return set(reader.columns(["id"], f"{rule.filter} {window}")["id"]) if rule.filter else None


def _novel(reader: Reader, window: str, since: float) -> Iterator[str]:
    """Interactions whose question is farther from every one of the weeks before than nearly all of those are from each
    other; none where the weeks before have too few."""
    rows = reader.sample("query_embedding", since - _REFERENCE_WEEKS * WEEK, since, _REFERENCE)
    vectors = [np.frombuffer(vector, "<f4") for (vector,) in rows]
    ((width, count),) = Counter(map(len, filter(len, vectors))).most_common(1) or [(0, 0)]
    if count < 2 * FEWEST:
        return
    reference = _unit(np.stack([vector for vector in vectors if len(vector) == width]))  # (n, width)
    among = reference @ reference.T
    np.fill_diagonal(among, -1.0)
    limit = np.quantile(1 - among.max(axis=1), _NOVEL)
    for batch in reader.column_batches(["id", "query_embedding"], window):
        pairs = zip(batch["id"], batch["query_embedding"], strict=True)
        those = [(id_, vector) for id_, vector in pairs if len(vector) == width]
        if those:
            distances = 1 - (_unit(np.stack([vector for _, vector in those])) @ reference.T).max(axis=1)
            yield from (id_ for (id_, _), distance in zip(those, distances, strict=True) if distance > limit)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def weighted_share(reviewed: Sequence[tuple[float, float]], waiting: Mapping[float, int], signature: object) -> Score:
    """The mean of a value over all traffic (Hájek's ratio of Horvitz–Thompson sums), with Wilson's interval for as many
    interactions as would have the same variance.

    `reviewed` are weights and values between 0 and 1, `waiting` counts by weight those that nobody reviewed yet: within
    a weight those reviewed so far are a random part of those drawn, and stand for the others. Unscored, with how much
    is missing, where a weight has none, or all together are too few.
    """
    done = Counter(weight for weight, _ in reviewed)
    if (count := len(reviewed)) < FEWEST:
        return Unscored(f"not enough reviews: {count} of {FEWEST}, {FEWEST - count} are missing")
    if unknown := [f"{waiting[weight]} of weight {weight:.3g}" for weight in sorted(waiting) if not done[weight]]:
        return Unscored(f"no review yet of {', '.join(unknown)}: one of each at least is missing")
    values = np.array([value for _, value in reviewed])
    weights = np.array([weight * (1 + waiting.get(weight, 0) / done[weight]) for weight, _ in reviewed])
    share = float((weights * values).sum() / weights.sum())
    trials = weights.sum() ** 2 / (weights**2).sum()  # Kish's: where all agree, the variance says nothing

    def interval() -> tuple[float, float]:
        if share in (0.0, 1.0):
            return wilson_interval(share * trials, trials)
        return proportion_interval(np.column_stack([weights * values, weights]))

    return interval_score(share, count, count, signature, interval)
