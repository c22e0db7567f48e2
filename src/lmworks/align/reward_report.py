"""How well a reward model, or a policy, does on held-out rows: accuracy, calibration, and how much of it is length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.align.reward_model import Kind, Reward
from lmworks.data.token_groups import TokenGroups
from lmworks.evaluate.confidence_metrics import bin_rows, ece_interval, ece_of_sums
from lmworks.model.transformer import Transformer
from lmworks.records import Score, Scored
from lmworks.report import Section, Table
from lmworks.statistics import spearman
from lmworks.statistics.scores import interval_score, mean_score
from lmworks.train.objectives.objective import to_device
from lmworks.train.run_log import read_log

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The pairs, completions or steps that a reward model scores.

    lengths  (targets,), of pairs (pairs, 2): tokens of a completion; of a step, its place in the sequence
    labels   (targets,): labels or ratings, of pairs 1
    groups   of each target, its row
    """

    lengths: Numbers
    labels: Numbers
    groups: list[int]


def targets_of(kind: Kind, groups: TokenGroups) -> Targets:
    """The targets of rows, in the order of `Reward.scored`."""
    batch = groups.batch(range(len(groups)))
    if kind == "process":
        steps = batch.completion_mask.any(1)  # (groups, length)
        rows, columns = steps.nonzero(as_tuple=True)
        return Targets(columns.double().numpy(), batch.completion_mask[:, 0][steps].double().numpy(), rows.tolist())
    lengths, rows = batch.completion_mask.sum(-1).double().numpy(), list(range(len(groups)))  # (groups, size)
    if kind == "pairwise":
        return Targets(lengths, np.ones(len(groups)), rows)
    return Targets(lengths[:, 0], groups.columns[kind].astype(np.float64), rows)


@torch.no_grad()
def scores_of(model: Transformer, objective: Reward, groups: TokenGroups) -> Numbers:
    """The score of each target."""
    was = model.training
    model.eval()
    batches = (to_device(batch, model.tokens.device) for batch in groups.batches(16))
    scores = torch.cat([objective.scored(model, batch)[0] for batch in batches])
    model.train(was)
    return scores.double().cpu().numpy()


def length_rule(train: Targets) -> Callable[[Targets], Numbers]:
    """The rule that sees lengths alone and is right most often here, as a function that says of each of other targets
    whether it is right: of pairs, that the longer is better, or the shorter, a tie being half right;
    else, that what is longer than a threshold is right, or wrong."""
    pairs = train.lengths.ndim == 2

    def right(of: Targets, threshold: float, longer_wins: bool) -> Numbers:
        longer = of.lengths[:, 0] - of.lengths[:, 1] if pairs else of.lengths - threshold
        return np.where((longer == 0) & pairs, 0.5, ((longer > 0) == longer_wins) == (of.labels > 0))

    thresholds = [0.0] if pairs else [-np.inf, *np.quantile(train.lengths, np.linspace(0, 1, 21))]
    rules = [(threshold, longer_wins) for threshold in thresholds for longer_wins in (True, False)]
    best = max(rules, key=lambda rule: right(train, *rule).mean())
    return lambda of: right(of, *best)


def reward_scores(kind: Kind, train: Targets, held_out: Targets, scores: Numbers) -> dict[str, Score]:
    """Numbers of held-out targets by name, rows being resampled whole: `accuracy`, `length_accuracy` (of `length_rule`
    on the training rows), `ece` (of σ of the score, or of the margin), `length_correlation` (Spearman's, of score and
    length), and of ratings `rating_correlation` instead of the first."""
    labels, groups = held_out.labels, held_out.groups
    signed, result = {"rows": sorted(set(groups)), "kind": kind}, dict[str, Score]()
    if kind == "rating":
        result["rating_correlation"] = spearman(scores.tolist(), labels.tolist(), [signed, "rating"], groups)
    else:
        margin = scores[:, 0] - scores[:, 1] if scores.ndim == 2 else scores
        right = np.where(margin == 0, 0.5, (margin > 0) == (labels > 0))  # half where it is undecided
        result["accuracy"] = mean_score(right.tolist(), [signed, "accuracy"], groups)
        by_length = length_rule(train)(held_out)
        result["length_accuracy"] = mean_score(by_length.tolist(), [signed, "length"], groups)
        rows = bin_rows((1 / (1 + np.exp(-np.abs(margin)))).tolist(), right.tolist())
        value, units = float(ece_of_sums(rows.sum(axis=0))), len(set(groups))
        interval = lambda: ece_interval(rows, groups)  # noqa: E731
        result["ece"] = interval_score(value, len(rows), units, [signed, "ece"], interval)
    pooled, clusters = (scores.ravel().tolist(), held_out.lengths.ravel().tolist()), np.repeat(groups, scores[0].size)
    result["length_correlation"] = spearman(*pooled, [signed, "correlation"], clusters.tolist())
    return result


_NAMES = {
    "accuracy": "accuracy",
    "length_accuracy": "accuracy of the best rule by length in tokens alone",
    "ece": "calibration error (ECE) of σ of score or margin",
    "rating_correlation": "rank correlation with the ratings",
    "length_correlation": "rank correlation of score and length in tokens",
}


def reward_section(
    model: Transformer, objective: Reward, train: TokenGroups, held_out: TokenGroups
) -> tuple[Section, dict[str, Any]]:
    """The table of `reward_scores`, with a warning where length does as well; and the numbers for the manifest."""
    known, asked = (targets_of(objective.kind, groups) for groups in (train, held_out))
    scores = reward_scores(objective.kind, known, asked, scores_of(model, objective, held_out))
    rows = tuple((_NAMES[name], str(value)) for name, value in scores.items())
    beside, accuracy = scores.get("length_accuracy"), scores.get("accuracy")
    alarms = ()
    if isinstance(accuracy, Scored) and isinstance(beside, Scored) and accuracy.value <= beside.interval[1]:
        often = "more often" if beside.value > accuracy.value else "about as often"
        both = f"{beside.value:.3f} next to {accuracy.value:.3f}"
        alarms = (f"no better than a rule of length: length in tokens alone is right {often}, {both}",)
    scored = {f"held_out_{name}": score for name, score in scores.items() if isinstance(score, Scored)}
    numbers: dict[str, Any] = {name: score.value for name, score in scored.items()}
    numbers |= {f"{name}_interval": list(score.interval) for name, score in scored.items()}
    text = f"{len(held_out):,} held-out rows of {objective.kind} feedback, with 95 % intervals"
    return Section("Held out", text, (Table(("what", "value"), rows),), alarms=alarms), numbers


def held_out_section(log: Path, of: str) -> tuple[Section, dict[str, Any]]:
    """The validations of a policy before and after, `of` so many rows, and the last numbers for the manifest."""
    lines = [line for line in read_log(log) if line["kind"] == "validation"]
    first, last = lines[0], lines[-1]
    names = [name for name in last if f"{name}_interval" in last and name != "loss"]

    def written(line: Mapping[str, Any], name: str) -> str:
        low, high = line.get(f"{name}_interval", (None, None))
        return "unscored" if low is None else f"{line[name]:.3f} [{low:.3f}, {high:.3f}]"

    rows = tuple((name, written(first, name), written(last, name)) for name in names)
    numbers = {f"held_out_{name}": last[name] for name in names}
    return Section("Held out", "", (Table(("what", "before", "after"), rows, f"{of}, with 95 % intervals"),)), numbers
