"""Calibration of a judge on rows that people have labelled: how far it agrees, and what besides quality moves it.

    found = calibrate(judge, read_labelled(Path("rows.jsonl"), judge.rubric))
    found.figures["Cohen's kappa"]

The stage `evaluate.judge` keeps it as an artefact; gates, experiments and rewards ask `calibrated` before they take a
judge's word.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import StageContext, StageResult, hash_json, write_json
from lmworks.config import from_mapping
from lmworks.evaluate.confidence_metrics import bin_rows, ece_metric
from lmworks.evaluate.config import JudgeConfig
from lmworks.evaluate.judge import JUDGE, Calibration, Judge, Judgement, Rubric, rubric
from lmworks.evaluate.metric import Item, Value, prompt_text, score
from lmworks.generate.remote_engine import open_engine
from lmworks.records import Message, Score, Scored, Unscored
from lmworks.report import Section, Table
from lmworks.statistics.agreement import cohen_kappa, krippendorff_alpha
from lmworks.statistics.correlation import spearman
from lmworks.statistics.scores import mean_score, sums_score

_MARK = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s|^#{1,6}\s|\*\*[^*\n]+\*\*|!", re.MULTILINE)  # formatted for show
FIGURES = {
    "accuracy": "verdicts that are the people's",
    "gain": "accuracy above that of the most frequent answer; of pairs, above one half",
    "Cohen's kappa": "agreement beyond chance; on a scale, weighted by the squared distance",
    "Krippendorff's alpha": "agreement beyond chance of two raters of one population",
    "Spearman's rho": "rank correlation of the judge's value and the people's",
    "swap consistency": "pairs with the same verdict in both orders",
    "position": "by how much the first place is preferred, whoever stands there; 0 is fair",
    "length": "value gained by twice the words, label and style held fixed; 0 is fair",
    "style": "value gained by twice the marks (lists, bold, headings, !), label and length held fixed; 0 is fair",
    "self-preference": "value gained where the judge's own model wrote it, all else held fixed; 0 is fair",
    "paraphrase deviation": "standard deviation of an item's value over the wordings of the rubric",
    "paraphrase flips": "items whose verdict another wording changes",
    "calibration error": "gap of confidence and accuracy over ten bins (ECE)",
    "overconfidence": "mean confidence less accuracy",
    "accuracy at threshold": "on the half of the clusters that the threshold was not chosen on",
    "mass": "probability that the model's answer is an allowed verdict at all",
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row with people's judgement: its texts, the value that people gave it on the rubric's scale, the cluster of
    rows that are not independent of it, and who wrote the response (of a pair: the first, the second)."""

    texts: Mapping[str, str]
    human: float
    cluster: str
    writers: tuple[str, ...] = ()


def read_labelled(path: Path, by: Rubric) -> list[Labelled]:
    """Rows of JSON lines.

    Pointwise: `response`, and `label` (a verdict, or true and false for the best and the worst) or `rating` (a number
    on the rubric's scale). Pairwise: `chosen` and `rejected`, whose places are drawn by the row's content. Other texts
    are fields for the rubric. `cluster` (default: the prompt), `model` or `chosen_model` and `rejected_model` are
    optional. ValueError with row and remedy.
    """
    lines = [line for line in path.read_text("utf-8").split("\n") if line.strip()]
    rows = [_labelled(json.loads(line), by, number) for number, line in enumerate(lines, 1)]
    by.check([row.texts for row in rows])
    if len({row.human for row in rows}) < 2:
        raise ValueError(
            f"{path}: people gave all {len(rows)} rows one label, which compares no judges: add other labels"
        )
    return rows


def _labelled(row: Mapping[str, Any], by: Rubric, number: int) -> Labelled:
    texts = {name: text for name, value in row.items() if (text := _text(value)) is not None}
    low, high = float(by.values.min()), float(by.values.max())
    cluster = str(row.get("cluster") or texts.get("prompt") or number)
    if by.pairwise:
        if not {"chosen", "rejected"} <= texts.keys():
            raise ValueError(f"row {number} has no chosen and rejected, which the pairwise rubric {by.name} compares")
        order = ("chosen", "rejected") if _coin(json.dumps(row, sort_keys=True)) else ("rejected", "chosen")
        writers = tuple(str(row[f"{name}_model"]) for name in order if f"{name}_model" in row)
        human = high if order[0] == "chosen" else low
        return Labelled({**texts, "first": texts[order[0]], "second": texts[order[1]]}, human, cluster, writers)
    known = {True: high, False: low, **by.verdicts}
    human = float(row["rating"]) if "rating" in row else known.get(row.get("label"))  # type: ignore[arg-type]
    if human is None or not low <= human <= high:
        raise ValueError(
            f"row {number} has the label {row.get('rating', row.get('label'))!r}: give `label` (true, false, "
            f"{', '.join(by.verdicts)}), or `rating` from {low:g} to {high:g}"
        )
    return Labelled(texts, human, cluster, (str(row["model"]),) if "model" in row else ())


def _text(value: Any) -> str | None:
    """A text, or messages as one; None for anything else."""
    if isinstance(value, list) and all(isinstance(each, dict) and "role" in each for each in value):
        return prompt_text(tuple(from_mapping(Message, each) for each in value))
    return value if isinstance(value, str) else None


def _coin(text: str) -> bool:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0


def calibrate(judge: Judge, rows: Sequence[Labelled], own: str = "") -> Calibration:
    """Agreement with people, and biases. `own` is the name by which the rows call the judge's own model.

    Each row is judged once for each wording of the rubric, pairs twice. Intervals are 95 %, over clusters. ValueError
    for a row that the judge cannot read.
    """
    by, found = judge.rubric, list[list[Judgement]]()
    for prompt in (by.prompt, *by.paraphrases):
        asked = replace(judge, rubric=replace(by, prompt=prompt), calibration=None)
        read = asked.judgements([row.texts for row in rows])
        for number, each in enumerate(read, 1):
            if isinstance(each, Unscored):
                raise ValueError(f"row {number} cannot be judged: {each.reason}; drop it, or take another judge")
        found.append([each for each in read if isinstance(each, Judgement)])
    human, scale = np.array([row.human for row in rows]), by.values
    people = np.abs(human[:, None] - scale).argmin(axis=1)  # the verdict nearest to a rating
    most = Counter(people.tolist()).most_common(1)[0][0]
    baseline = np.full(len(rows), 0.5) if by.pairwise else (people == most).astype(float)
    value, middle = np.array([each.value for each in found[0]]), float(scale.min() + scale.max()) / 2
    to_choose = np.array([_coin(row.cluster) for row in rows])
    tried = np.quantile(value[to_choose], np.linspace(0, 1, 401), method="lower") if to_choose.any() else [middle]
    levels = [scale.min() - 1, *np.unique(tried)]
    hits = np.array([(value > level) == (human > middle) for level in levels])  # (levels, n)
    best = int(hits[:, to_choose].sum(axis=1).argmax())
    figures = _figures(judge, rows, found, people, baseline) | _slopes(rows, human, value, by, own, judge.signature)
    clusters = [row.cluster for row, chosen in zip(rows, to_choose, strict=True) if not chosen]
    kept, signature = hits[best, ~to_choose].astype(float).tolist(), [judge.signature, hash_json(rows)]
    figures["accuracy at threshold"] = mean_score(kept, signature, clusters)
    gain = figures["gain"]
    useful = isinstance(gain, Scored) and gain.interval[0] > 0
    other = "a coin" if by.pairwise else f"the majority answer, always {list(by.verdicts)[most]!r}"
    words = f"{'better' if useful else 'no better'} than {other} (accuracy {figures['accuracy']}, gain {gain})"
    threshold, units = float(levels[best]), len({row.cluster for row in rows})
    return Calibration(judge.fingerprint, by.hash, by.name, len(rows), useful, words, threshold, figures, units)


def _figures(
    judge: Judge, rows: Sequence[Labelled], found: list[list[Judgement]], people: np.ndarray, baseline: np.ndarray
) -> dict[str, Score]:
    """Figures of the first wording's judgements, and how far those of the others differ from them."""
    by, judged, clusters = judge.rubric, found[0], [row.cluster for row in rows]
    scale, signature = by.values, [judge.signature, hash_json(rows)]
    verdict = np.array([list(by.verdicts).index(each.verdict) for each in judged])
    value, confidence = np.array([(each.value, each.confidence) for each in judged]).T
    tie = by.pairwise & (value == (scale.min() + scale.max()) / 2) & (scale[people] != value)
    right = np.where(tie, 0.5, people == verdict)  # 0.5: the two orders contradict each other evenly
    values = np.array([[each.value for each in wording] for wording in found])  # (wordings, n)
    flips = [len({wording[place].verdict for wording in found}) > 1 for place in range(len(rows))]
    binned: list[Value] = [tuple(row) for row in bin_rows(confidence.tolist(), right.tolist()).tolist()]

    def mean(name: str, numbers: Any, unless: str = "") -> Score:
        """Rounded: where all are 0 but for rounding, there is no bias."""
        rounded = np.round(np.asarray(numbers, dtype=np.float64), 12).tolist()
        return Unscored(unless) if unless else mean_score(rounded, [name, *signature], clusters)

    single, alone = "" if by.pairwise else "a single response has no order", "" if by.paraphrases else "no paraphrases"
    ordered, weights = sorted(scale.tolist()), "quadratic" if len(scale) > 2 else None
    ratings = scale[np.column_stack([people, verdict])]  # (n, 2)
    return {
        "accuracy": mean("accuracy", right),
        "gain": mean("gain", right - baseline),
        "Cohen's kappa": cohen_kappa(
            scale[people].tolist(), scale[verdict].tolist(), signature, clusters, categories=ordered, weights=weights
        ),
        "Krippendorff's alpha": krippendorff_alpha(ratings.tolist(), signature, clusters, level="interval"),
        "Spearman's rho": spearman([row.human for row in rows], value.tolist(), signature, clusters),
        "swap consistency": mean("swap", [bool(each.consistent) for each in judged], single),
        "position": mean("position", [each.preference for each in judged], single),
        "paraphrase deviation": mean("paraphrase deviation", values.std(axis=0), alone),
        "paraphrase flips": mean("paraphrase flips", flips, alone),
        "calibration error": score(ece_metric(), [Item("", cluster=one) for one in clusters], binned, signature),
        "overconfidence": mean("overconfidence", confidence - right),
        "mass": mean("mass", [each.mass for each in judged]),
    }


def _slopes(
    rows: Sequence[Labelled], human: np.ndarray, value: np.ndarray, by: Rubric, own: str, signature: Any
) -> dict[str, Score]:
    """Least squares of the judge's value on people's, length, style and authorship; of a pair on the differences.

    A slope is a function of sums over the rows, X'X and X'y, so that its interval is that of any such metric.
    """
    names, sign = (("first", "second"), (1.0, -1.0)) if by.pairwise else (("response",), (1.0,))
    texts = [[row.texts[name] for name in names] for row in rows]
    writers = [row.writers if len(row.writers) == len(names) else ("",) * len(names) for row in rows]
    columns = {
        "length": np.log2([[1 + len(text.split()) for text in each] for each in texts]) @ sign,
        "style": np.log2([[1 + len(_MARK.findall(text)) for text in each] for each in texts]) @ sign,
        "self-preference": np.array([[bool(own) and writer == own for writer in each] for each in writers]) @ sign,
    }
    result: dict[str, Score] = dict.fromkeys(columns, Unscored("the responses do not differ in it, or no row says"))
    columns = {name: column for name, column in columns.items() if np.ptp(column)}
    clusters = [row.cluster for row in rows]
    middle = (by.values.min() + by.values.max()) / 2 if by.pairwise else 0.0
    x = np.column_stack([*([] if by.pairwise else [np.ones(len(rows))]), human - middle, *columns.values()])
    sums = np.column_stack([(x[:, :, None] * x[:, None, :]).reshape(len(rows), -1), x * (value - middle)[:, None]])
    for place, name in enumerate(columns, x.shape[1] - len(columns)):
        result[name] = sums_score(sums, partial(_slope, x.shape[1], place), [name, signature], clusters)
    return result


def _slope(width: int, place: int, sums: np.ndarray) -> np.ndarray:
    squares = sums[..., : width * width].reshape(*sums.shape[:-1], width, width)
    return (np.linalg.pinv(squares, hermitian=True) @ sums[..., width * width :, None])[..., place, 0]


def check(config: JudgeConfig, base: Path) -> tuple[Rubric, list[Labelled]]:
    """The rubric and the rows, before any stage runs; LookupError or ValueError for what cannot be used."""
    by = rubric(base / config.rubric if (base / config.rubric).is_file() else config.rubric)
    return by, read_labelled(base / config.rows, by)


def outside_digest(config: JudgeConfig, base: Path) -> str:
    return hash_json(check(config, base))


def calibrate_judge(config: JudgeConfig, context: StageContext) -> StageResult:
    """Calibrate the model in the role `judge`, or that of the endpoint."""
    source, (by, rows) = config.endpoint or context.models["judge"], check(config, context.base)
    found = calibrate(Judge(open_engine(source), by, progress=context.progress), rows, config.own)
    write_json(context.output / JUDGE, found)
    return StageResult({"rows": found.n, "useful": found.useful}, (card(found, Path(source).name),))


def card(found: Calibration, model: str) -> Section:
    """A sentence on whether to trust the model as a judge, and every figure with interval and n."""
    rows = tuple((name, str(found.figures[name]), meaning) for name, meaning in FIGURES.items())
    text = (
        f"{model} ({found.model[:12]}…) by the rubric {found.rubric_name} ({found.rubric}): over {found.n:,} rows in "
        f"{found.clusters:,} clusters this judge is {found.verdict}. Its threshold is {found.threshold:.3f}."
    )
    alarms = () if found.useful else (f"Do not rely on this judge of {found.rubric_name}: it is {found.verdict}.",)
    return Section(f"Judge: {found.rubric_name}", text, (Table(("figure", "value", "meaning"), rows),), alarms=alarms)
