"""Interactions for review, drawn by rules with known probabilities, and estimates of all traffic from those reviewed.

Each rule draws every interaction that it applies to by itself, with its rate (Poisson sampling), by a number that is a
hash of rule and interaction: drawn again, over whatever window, the same ones come out, and a thumb that comes a week
late adds its interaction. An interaction to which the rules r apply is drawn with probability 1 - prod(1 - rate_r);
one over that is its weight (Horvitz & Thompson 1952). Alarms and people add what they like with weight 1: it stands for
itself alone, and for nothing that was not chosen.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.log import Log, Reader
from lmworks.records import Score, Unscored
from lmworks.statistics.intervals import proportion_interval, wilson_interval
from lmworks.statistics.scores import interval_score

FEWEST = 30  # reviews of an estimate
WEEK = 7 * 86400.0
_REFERENCE_WEEKS = 4
_REFERENCE = 2000  # questions that new ones are compared with, at most
_NOVEL = 0.99  # quantile of the distances within the reference from which a question is new


def uniform(rule: str, interaction: str) -> float:
    """A number in [0, 1) that belongs to this pair for good."""
    return int.from_bytes(hashlib.blake2b(f"{rule}\0{interaction}".encode(), digest_size=8).digest()) / 2**64


def review_id(interaction: str) -> str:
    """The id of its place in the queue, whose order is that of no property of the interaction."""
    return hashlib.blake2b(f"review\0{interaction}".encode(), digest_size=16).hexdigest()


def fill(log: Log, config: ReviewConfig, now: float, days: float = 7.0) -> Counter[str]:
    """Draw from the interactions of the last `days`; how many each rule added, and `""` those of which the weight fell
    since a further rule applies. Repeating it changes nothing."""
    reader, since = log.reader, now - days * 86400
    window = f"since:{_iso(since)} until:{_iso(now)} -operation:embeddings"
    some = {name: _applies(reader, rule, window, since, config) for name, rule in config.rules.items()}
    drawn: dict[str, tuple[str, float]] = {}
    for batch in reader.column_batches(["id"], window):
        for one in batch["id"]:
            rules = [name for name, ids in some.items() if ids is None or one in ids]
            hits = [name for name in rules if uniform(name, one) < config.rules[name].rate]
            if hits:
                missed = math.prod(1 - config.rules[name].rate for name in rules)
                drawn[one] = hits[0], 1 / (1 - missed)
    before: dict[str, float] = dict(reader.rows("reviews", "interaction, weight"))  # type: ignore[arg-type]
    new = {one: found for one, found in drawn.items() if one not in before}
    rows = [_row(one, rule, weight, now) for one, (rule, weight) in new.items()]
    for start in range(0, len(rows), 500):
        log.append("reviews", rows[start : start + 500]).result()
    fallen = [(one, w) for one, (_, w) in drawn.items() if one in before and w < before[one] - 1e-9]
    for one, weight in fallen:
        log.update("reviews", {"weight": weight}, "interaction = ?", [one]).result()
    return Counter(rule for rule, _ in new.values()) + Counter({"": len(fallen)})


def enqueue(log: Log, interactions: Sequence[str], rule: str, now: float) -> int:
    """Put interactions into the queue that an alarm, or a person, chose; how many were not in it yet."""
    added = log.append("reviews", [_row(one, rule, 1.0, now) for one in interactions]).result() if interactions else 0
    for one in interactions:
        log.update("reviews", {"weight": 1.0}, "interaction = ? AND weight > 1", [one]).result()
    return added


def _row(interaction: str, rule: str, weight: float, now: float) -> dict[str, Any]:
    return {
        "id": review_id(interaction), "interaction": interaction, "rule": rule, "weight": weight, "time": now,
    }  # fmt: skip


def _iso(moment: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).isoformat()


def _applies(reader: Reader, rule: ReviewRule, window: str, since: float, config: ReviewConfig) -> set[str] | None:
    """The interactions of the window that a rule applies to; None for all of them."""
    if rule.kind == "disagreement":
        said = "((o.value >= 0.5 AND i.thumbs = 'down') OR (o.value < 0.5 AND i.thumbs = 'up'))"
        where = f"o.name = ? AND i.time >= ? AND {said}"
        joined = "outcomes o JOIN interactions i ON i.id = o.interaction"
        return {row[0] for row in reader.rows(joined, "DISTINCT i.id", where, [config.judge, since])}
    if rule.kind == "novelty":
        return set(_novel(reader, window, since))
    return set(reader.columns(["id"], f"{rule.filter} {window}")["id"]) if rule.filter else None


def _novel(reader: Reader, window: str, since: float) -> Iterator[str]:
    """Interactions whose question is farther from every one of the weeks before than nearly all of those are from each
    other; none where the weeks before have too few."""
    earlier = f"since:{_iso(since - _REFERENCE_WEEKS * WEEK)} until:{_iso(since)} -operation:embeddings"
    kept: list[tuple[float, np.ndarray]] = []
    for batch in reader.column_batches(["id", "query_embedding"], earlier):
        rows = [(uniform("reference", one), e) for one, e in zip(batch["id"], batch["query_embedding"], strict=True)]
        kept = sorted([*kept, *(row for row in rows if len(row[1]))], key=lambda row: row[0])[:_REFERENCE]
    width = Counter(len(vector) for _, vector in kept).most_common(1)
    if not width or width[0][1] < 2 * FEWEST:
        return
    reference = _unit(np.stack([vector for _, vector in kept if len(vector) == width[0][0]]))  # (n, width)
    among = reference @ reference.T
    np.fill_diagonal(among, -1.0)
    limit = np.quantile(1 - among.max(axis=1), _NOVEL)
    for batch in reader.column_batches(["id", "query_embedding"], window):
        pairs = zip(batch["id"], batch["query_embedding"], strict=True)
        those = [(one, vector) for one, vector in pairs if len(vector) == width[0][0]]
        if those:
            distances = 1 - (_unit(np.stack([vector for _, vector in those])) @ reference.T).max(axis=1)
            yield from (one for (one, _), distance in zip(those, distances, strict=True) if distance > limit)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Estimates


@dataclass(frozen=True, slots=True)
class Drawn:
    """An interaction of the queue: its weight, and its value between 0 and 1 where somebody reviewed it."""

    weight: float
    value: float | None


def weighted_share(drawn: Sequence[Drawn], signature: object) -> Score:
    """The mean of a value over all traffic (Hájek's ratio of Horvitz–Thompson sums), with Wilson's interval for as many
    interactions as would have the same variance.

    Within a weight those reviewed so far are a random part of those drawn, and stand for the others. Unscored, with how
    much is missing, where a weight has none, or all together are too few.
    """
    counts = Counter(one.weight for one in drawn)
    done = Counter(one.weight for one in drawn if one.value is not None)
    if (reviewed := done.total()) < FEWEST:
        return Unscored(f"not enough reviews: {reviewed} of {FEWEST}, {FEWEST - reviewed} are missing")
    if waiting := [f"{counts[weight]} of weight {weight:.3g}" for weight in sorted(counts) if not done[weight]]:
        return Unscored(f"no review yet of {', '.join(waiting)}: one of each at least is missing")
    rows = [(one.value, one.weight * counts[one.weight] / done[one.weight]) for one in drawn if one.value is not None]
    values, weights = np.array(rows).T
    share = float((weights * values).sum() / weights.sum())
    trials = weights.sum() ** 2 / (weights**2).sum()  # Kish's: where all agree, the variance says nothing

    def interval() -> tuple[float, float]:
        if share in (0.0, 1.0):
            return wilson_interval(share * trials, trials)
        return proportion_interval(np.column_stack([weights * values, weights]))

    return interval_score(share, reviewed, reviewed, signature, interval)
