"""How well a reward model, or a policy, does on held-out rows: accuracy, calibration, and how much of it is length."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.align.reward_model import Reward
from lmworks.align.row_lint import length_rule
from lmworks.data.token_groups import TokenGroups
from lmworks.evaluate.confidence_metrics import bin_rows, ece_interval, ece_of_sums
from lmworks.model.transformer import Transformer
from lmworks.records import Score, Scored
from lmworks.report import Section, Table
from lmworks.statistics import spearman
from lmworks.statistics.scores import interval_score, mean_score
from lmworks.train.objectives.objective import to_device
from lmworks.train.run_log import read_log

_TOGETHER = 16  # rows of a batch


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutRewards:
    """Scores of targets, their labels or ratings, of pairs 1, and the group of each, (targets,) or of pairs (pairs, 2).

    lengths  Tokens of a completion; of a step, its place in the sequence.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    lengths: NDArray[np.float64]
    groups: list[int]


@torch.no_grad()
def held_out_rewards(model: Transformer, objective: Reward, groups: TokenGroups) -> HeldOutRewards:
    """Score every group."""
    found, was = [], model.training
    model.eval()
    for start in range(0, len(groups), _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, len(groups)))
        batch = to_device(groups.batch(numbers), model.tokens.device)
        scores, labels = objective.scored(model, batch)
        found.append((scores.double().cpu().numpy(), labels.double().cpu().numpy()))
    model.train(was)
    lengths, of = target_lengths(objective, groups)
    scores, labels = (np.concatenate(part) for part in zip(*found, strict=True))
    return HeldOutRewards(scores, labels, lengths, of)


def target_lengths(objective: Reward, groups: TokenGroups) -> tuple[NDArray[np.float64], list[int]]:
    """The length of each target, of pairs both, and its group."""
    batch = groups.batch(range(len(groups)))
    if objective.kind == "process":
        steps = batch.completion_mask.any(1).nonzero()  # (steps, 2): group, place
        return steps[:, 1].double().numpy(), steps[:, 0].tolist()
    lengths = batch.completion_mask.sum(-1).double().numpy()  # (groups, size)
    return lengths if objective.kind == "pairwise" else lengths[:, 0], list(range(len(groups)))


def train_labels(objective: Reward, groups: TokenGroups) -> NDArray[np.float64]:
    """The label of each target, as `Reward.scored` has them."""
    batch = groups.batch(range(len(groups)))
    if objective.kind == "process":
        return batch.completion_mask[:, 0][batch.completion_mask.any(1)].double().numpy()
    return np.ones(len(groups)) if objective.kind == "pairwise" else groups.columns[objective.kind].astype(np.float64)


def reward_scores(objective: Reward, train: TokenGroups, found: HeldOutRewards) -> dict[str, Score]:
    """Scores of held-out targets by name, groups being resampled whole: `accuracy`, `length_accuracy` (that of the best
    rule by length alone on the training rows), `ece` (of σ of the score, or of the margin),
    `length_correlation` (Spearman's, of score and length), and of ratings `rating_correlation` instead of the first."""
    scores, lengths, labels = found.scores, found.lengths, found.labels
    signed = {"rows": sorted(set(found.groups)), "kind": objective.kind}
    clusters = [group for group in found.groups for _ in range(scores[0].size)]
    pooled = scores.ravel().tolist(), lengths.ravel().tolist()
    result: dict[str, Score] = {}
    if objective.kind == "rating":
        result["rating_correlation"] = spearman(scores.tolist(), labels.tolist(), [signed, "rating"], found.groups)
    else:
        margin = scores[:, 0] - scores[:, 1] if scores.ndim == 2 else scores
        right = np.where(margin == 0, 0.5, (margin > 0) == (labels > 0))  # half where it is undecided
        confidence = 1 / (1 + np.exp(-np.abs(margin)))
        known = target_lengths(objective, train)[0]
        thresholds = [0.0] if known.ndim == 2 else [-np.inf, *np.quantile(known, np.linspace(0, 1, 21))]
        rule = length_rule(known, train_labels(objective, train), thresholds)
        result["accuracy"] = mean_score(right.tolist(), [signed, "accuracy"], found.groups)
        result["length_accuracy"] = mean_score(rule(lengths, labels).tolist(), [signed, "length"], found.groups)
        rows, units = bin_rows(confidence.tolist(), right.tolist()), len(set(found.groups))
        value = float(ece_of_sums(rows.sum(axis=0)))
        result["ece"] = interval_score(
            value, len(rows), units, [signed, "ece"], lambda: ece_interval(rows, found.groups)
        )
    result["length_correlation"] = spearman(*pooled, [signed, "correlation"], clusters)
    return result


_NAMES = {
    "accuracy": "accuracy",
    "length_accuracy": "accuracy of the best rule by length alone",
    "ece": "calibration error (ECE) of σ of score or margin",
    "rating_correlation": "rank correlation with the ratings",
    "length_correlation": "rank correlation of score and length",
}


def reward_section(
    model: Transformer, objective: Reward, train: TokenGroups, held_out: TokenGroups
) -> tuple[Section, dict[str, Any]]:
    """The table of `reward_scores`, with a warning where length does as well; and the numbers for the manifest."""
    scores = reward_scores(objective, train, held_out_rewards(model, objective, held_out))
    rows = tuple((_NAMES[name], str(value)) for name, value in scores.items())
    beside, own = scores.get("length_accuracy"), scores.get("accuracy")
    alarms = ()
    if isinstance(own, Scored) and isinstance(beside, Scored) and own.value <= beside.interval[1]:
        alarms = ("no better than a rule of length: the completion's length alone is right as often",)
    numbers: dict[str, Any] = {}
    for name, score in scores.items():
        if isinstance(score, Scored):
            numbers |= {f"held_out_{name}": score.value, f"held_out_{name}_interval": list(score.interval)}
        else:
            numbers[f"held_out_{name}_unscored"] = score.reason
    text = f"{len(held_out):,} held-out rows of {objective.kind} feedback, with 95 % intervals"
    return Section("Held out", text, (Table(("what", "value"), rows),), alarms=alarms), numbers


def held_out_section(log: Path) -> tuple[Section, dict[str, Any]]:
    """The validations of a policy before and after, and the last numbers for the manifest."""
    lines = [line for line in read_log(log) if line["kind"] == "validation"]
    first, last = lines[0], lines[-1]
    names = [name for name in last if f"{name}_interval" in last and name != "loss"]

    def written(line: Mapping[str, Any], name: str) -> str:
        low, high = line.get(f"{name}_interval", (None, None))
        return "unscored" if low is None else f"{line[name]:.3f} [{low:.3f}, {high:.3f}]"

    rows = tuple((name, written(first, name), written(last, name)) for name in names)
    numbers = {f"held_out_{name}": last[name] for name in names}
    return Section("Held out", "", (Table(("what", "before", "after"), rows, "with 95 % intervals"),)), numbers
