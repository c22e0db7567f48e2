"""What two runs of lm-evaluation-harness measured, beside each other: by metric, and item by item."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PERPLEXITIES = {"word_perplexity": math.exp, "bits_per_byte": lambda nats: nats / math.log(2)}


def measured(folder: Path) -> bool:
    return any(folder.rglob("results_*.json"))


def rows(task: str, own: Path, other: Path) -> Iterator[str]:
    """A line of the table for each metric of the task; the standard error is that of `own`."""
    items = [samples(folder, task) for folder in (own, other)]
    agreement = agreeing(*items)
    first, second = (results(folder, task) for folder in (own, other))
    for key, value in first.items():
        metric, _, kind = key.partition(",")
        if not kind or metric.endswith("_stderr"):
            continue
        error = first[f"{metric}_stderr,{kind}"]
        if metric in PERPLEXITIES:  # of which the harness gives none
            error = perplexity_error(metric, [item[metric] for item in items[0]])
        apart = abs(second[key] - value)
        share = apart / error if error else math.inf if apart else 0.0
        figures = f"{len(items[0])} | {value:.5g} ± {error:.2g} | {second[key]:.5g} | {share:.4f}"
        yield f"| {task} | {metric} | {figures} | {agreement} |"


def perplexity_error(metric: str, pairs: list[tuple[float, int]]) -> float:
    """The standard error of a metric of R = -sum(ln p) / sum(w) over texts of (ln p, weight w): R is linearised.

    var R = n / (n - 1) sum((-ln p - R w)^2) / sum(w)^2 (Cochran, Sampling Techniques, section 6.4); the slope of the
    metric at R carries it over.
    """
    weight = sum(each for _, each in pairs)
    ratio = -sum(value for value, _ in pairs) / weight
    squares = sum((-value - ratio * each) ** 2 for value, each in pairs)
    error = math.sqrt(len(pairs) / (len(pairs) - 1) * squares) / weight
    return error * (PERPLEXITIES[metric](ratio) if metric == "word_perplexity" else PERPLEXITIES[metric](1.0))


def agreeing(own: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """How far single answers agree: texts, or ln p and whether it is the greedy continuation."""
    pairs = [pair for items in zip(own, other, strict=True) for pair in zip(*map(answers, items), strict=True)]
    if isinstance(pairs[0][0], str):
        return f"{sum(one == two for one, two in pairs)} of {len(pairs)} texts are the same"
    apart = [abs(one[0] - two[0]) for one, two in pairs]
    told = f"{len(pairs)} ln p, at most {max(apart):.2g} apart"
    flags = [(one[1], two[1]) for one, two in pairs if len(one) > 1]
    if not flags:
        return told
    greedy, theirs = (sum(flag) for flag in zip(*flags, strict=True))
    return f"{told}; greedy {greedy} and {theirs}, {sum(one == two for one, two in flags)} alike"


def answers(item: dict[str, Any]) -> list[Any]:
    """Of an item, what the model answered to each of its requests: a text, (ln p, is greedy), or (ln p,).

    The harness writes numbers and truth values as texts.
    """
    given = [answer for (answer,) in item["resps"]]
    if PERPLEXITIES.keys() & item.keys():
        return [(float(value),) for value in given]
    return [answer if isinstance(answer, str) else (float(answer[0]), answer[1] == "True") for answer in given]


def results(folder: Path, task: str) -> dict[str, Any]:
    return json.loads(newest(folder, "results_*.json").read_text("utf-8"))["results"][task]


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    """In the order of the items."""
    lines = newest(folder, f"samples_{task}_*.jsonl").read_text("utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda item: item["doc_id"])


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_mtime)
