"""Train a classifier of texts: it learns from some examples, is calibrated on others, and evaluated on others again."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.config import to_mapping
from lmworks.corpus.taggers.classifier import FEATURES, Classifier, features, hashed_ngrams, linear, sigmoid
from lmworks.corpus.taggers.classifier_examples import Example
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.corpus.taggers.words import tokens
from lmworks.progress import Report, no_report
from lmworks.records import Score, Scored
from lmworks.report import Section, Table
from lmworks.statistics import LEVEL, mean_score, sign, wilson_interval

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_STEPS = 5  # that the progress counts
_TINY = 1e-15  # a probability of 0 or 1 would make an infinite loss
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_WEAK = 0.8  # an AUC below is worth a warning
_UNLIKE = 3.0  # times that one side's texts are longer: worth a warning
_HEAVIEST, _WORST = 20, 10  # rows of tables
_BEGINNING = 60  # characters of a text that a table shows


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does: texts of this probability or a higher one are taken to have the label.

    precision  Which share of those taken has it.
    recall     Which share of those that have it is taken.
    wrongly    Which share of those that do not have it is taken.
    """

    threshold: float
    precision: Score
    recall: Score
    wrongly: Score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """On `n` texts, `positives` of which have the label.

    auc        How often a text with the label has a higher probability than one without it.
    accuracy   How often the label is the likelier one.
    log_loss   Nats that the labels cost under the probabilities.
    suggested  What the threshold does that other texts suggested.
    points     What others do.
    """

    n: int
    positives: int
    auc: Scored
    accuracy: Score
    log_loss: Score
    suggested: Point
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A classifier, and what it is judged by.

    evaluated      The examples that it was evaluated on.
    probabilities  (evaluated,) of each.
    heaviest       n-grams of the largest weights, and these; above 0 they speak for the label.
    learned        How many examples it learned from, and how many it was `calibrated` on.
    """

    classifier: Classifier
    evaluation: Evaluation
    evaluated: tuple[Example, ...]
    probabilities: NDArray[np.float64]
    heaviest: tuple[tuple[str, float], ...]
    learned: int
    calibrated: int


def learn_classifier(
    examples: Iterable[Example], positive: str, config: ClassifierConfig | None = None, progress: Report = no_report
) -> Learned:
    """Learn from examples, calibrate on others, evaluate on others again; the same examples give the same classifier.

    `positive` is what the label is called, such as "quality". A hash of the text, or of its group, says which part an
    example is in, so that copies of a text are on one side. Probabilities are right where the label is as frequent as
    among the examples. The threshold suggested is that of the examples that calibrate. ValueError where one of the
    three parts lacks texts with the label, or texts without it.
    """
    config = config or ClassifierConfig()
    parts = _parts(examples, config.held_out)
    labels = [np.array([example.label for example in part], bool) for part in parts]
    seen = []
    for step, part in enumerate(parts):
        progress(step, _STEPS, "steps")
        seen.append(features((tokens(example.text) for example in part), config.order, config.bits))
    weights, bias = _fit(seen[0], labels[0], config)
    progress(4, _STEPS, "steps")
    slope, offset = calibration(linear(seen[1], weights) + bias, labels[1])
    weights, bias = (slope * weights).astype(np.float32), float(slope * bias + offset)
    threshold = suggest_threshold(sigmoid(linear(seen[1], weights) + bias), labels[1])
    probabilities = sigmoid(linear(seen[2], weights) + bias)
    texts = hash_json(sorted(example.text for example in parts[2]))
    evaluation = evaluate(probabilities, labels[2], (FEATURES, config, positive, texts), threshold)
    classifier = Classifier(weights, bias, config.order, positive, to_mapping(evaluation))
    heaviest = _heaviest(classifier, parts[0])
    progress(_STEPS, _STEPS, "steps")
    return Learned(classifier, evaluation, tuple(parts[2]), probabilities, heaviest, len(parts[0]), len(parts[1]))


def _parts(examples: Iterable[Example], held_out: float) -> tuple[list[Example], list[Example], list[Example]]:
    """Those to learn from, to calibrate with, to evaluate with."""
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        place = int(hash_json(example.group or example.text)[:13], 16) / 16**13  # 52 bits, which a float holds exactly
        parts[2 if place < held_out else 1 if place < 2 * held_out else 0].append(example)
    for part, purpose in zip(parts, ("learn from", "calibrate with", "evaluate with"), strict=True):
        positives = sum(example.label for example in part)
        if not 0 < positives < len(part):
            counts = f"{positives} with the label and {len(part) - positives} without it"
            raise ValueError(f"there are too few examples: to {purpose} there are {counts}, and both are needed")
    return parts


def _fit(seen: "csr_matrix", labels: NDArray[np.bool_], config: ClassifierConfig) -> tuple[NDArray[np.float64], float]:
    """Only buckets that occur are fitted: the penalty makes the weight of all others 0."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    occurring = np.unique(seen.indices)
    with threadpool_limits(limits=1):  # sums over threads would depend on how many there are
        model = LogisticRegression(C=config.strength, max_iter=1000).fit(seen[:, occurring], labels)
    weights = np.zeros(1 << config.bits)
    weights[occurring] = model.coef_[0]
    return weights, float(model.intercept_[0])


def calibration(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset for which sigmoid(slope · score + offset) is a probability.

    Platt 1999, "Probabilistic outputs for support vector machines": maximum likelihood with targets a little inside of
    0 and 1, so that labels which a threshold parts give finite numbers.
    """
    from sklearn.linear_model import LogisticRegression

    positives, negatives = np.count_nonzero(labels), np.count_nonzero(~labels)
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.abs(scores).max()), 1e-12)  # so that the two numbers looked for are of one size
    sides, shares = np.repeat([True, False], len(scores)), np.concatenate((targets, 1 - targets))
    model = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000)
    model.fit(np.tile(scores / scale, 2)[:, None], sides, sample_weight=shares)
    return float(np.ravel(model.coef_)[0] / scale), float(np.ravel(model.intercept_)[0])


def _heaviest(classifier: Classifier, examples: Sequence[Example]) -> tuple[tuple[str, float], ...]:
    """The buckets of the largest weights, each called by its most frequent n-gram, of equally frequent ones the first
    of the alphabet."""
    wanted = np.argsort(-np.abs(classifier.weights), kind="stable")[:_HEAVIEST]
    names: dict[int, Counter[str]] = defaultdict(Counter)
    for example in examples:
        words = [token.casefold() for token in tokens(example.text)]
        buckets = hashed_ngrams(words, classifier.order, classifier.bits)
        lengths = range(1, classifier.order + 1)
        grams = [words[start : start + n] for n in lengths for start in range(len(words) - n + 1)]
        for place in np.flatnonzero(np.isin(buckets, wanted)).tolist():
            names[int(buckets[place])][" ".join(grams[place])] += 1
    called = {bucket: min(counts, key=lambda name: (-counts[name], name)) for bucket, counts in names.items()}
    return tuple((called[bucket], float(classifier.weights[bucket])) for bucket in wanted.tolist() if bucket in called)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: object, threshold: float = 0.5
) -> Evaluation:
    """Compare (n,) probabilities with (n,) labels, some of which are true and some false. A threshold that these texts
    suggested would look better than it is: take it from others."""
    losses = -np.log(np.maximum(np.where(labels, probabilities, 1 - probabilities), _TINY))
    return Evaluation(
        n=len(labels),
        positives=int(labels.sum()),
        auc=_auc(probabilities, labels, signature),
        accuracy=mean_score(((probabilities > 0.5) == labels).tolist(), signature),
        log_loss=mean_score(losses.tolist(), signature),
        suggested=point(threshold, probabilities, labels, signature),
        points=tuple(point(each, probabilities, labels, signature) for each in _THRESHOLDS),
    )


def point(threshold: float, probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: object) -> Point:
    """What a threshold does to these texts, with Wilson's intervals."""
    taken = probabilities >= threshold
    return Point(
        threshold,
        precision=mean_score(labels[taken].tolist(), signature, nothing="no text is taken"),
        recall=mean_score(taken[labels].tolist(), signature, nothing="no text has the label"),
        wrongly=mean_score(taken[~labels].tolist(), signature, nothing="all texts have the label"),
    )


def suggest_threshold(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The threshold where recall minus the share wrongly taken is largest (Youden 1950, "Index for rating diagnostic
    tests"), which does not depend on how frequent the label is among the texts: in the corpus that is to be filtered it
    is another one. Of several the middle one, rounded as far as no text changes its side by that."""
    from sklearn.metrics import roc_curve

    wrongly, recall, values = (each[1:] for each in roc_curve(labels, probabilities, drop_intermediate=False))
    if len(values) == 1:
        return float(values[0])
    index = (recall - wrongly)[:-1]  # the last threshold takes all texts
    best = np.flatnonzero(index >= index.max() - 1e-12)
    place = int(best[(len(best) - 1) // 2])
    high, low = float(values[place]), float(values[place + 1])
    exact = middle if (middle := (low + high) / 2) > low else high  # no number lies between the smallest ones
    rounded = (float(f"{exact:.{digits}g}") for digits in range(2, 17))
    return next((each for each in rounded if low < each <= high), exact)


def _auc(probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: object) -> Scored:
    """The area under the ROC curve and its interval (DeLong et al. 1988; by ranks, Sun & Xu 2014).

    Where no two texts are in the wrong order the variance is 0 and would claim certainty: the interval is then that of
    as many right ones as there are texts of the rarer label.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(probabilities)
    above = (ranks[labels] - rankdata(probabilities[labels])) / negatives  # of each positive, negatives below it
    below = 1 - (ranks[~labels] - rankdata(probabilities[~labels])) / positives
    auc, rarer = float(above.mean()), min(positives, negatives)
    if auc in (0.0, 1.0) or rarer < 2:
        return Scored(auc, wilson_interval(round(auc * rarer), rarer), len(labels), sign(signature))
    error = (above.var(ddof=1) / positives + below.var(ddof=1) / negatives) ** 0.5
    half = float(ndtri((1 + LEVEL) / 2) * error)
    return Scored(auc, (max(auc - half, 0.0), min(auc + half, 1.0)), len(labels), sign(signature))


# ---------------------------------------------------------------------------------------------------------------------
# Report


def classifier_section(learned: Learned, examples: Sequence[Example]) -> Section:
    """What came in, how good it is, what to set, what it goes by, and the examples that it gets most wrong."""
    positive, evaluation = learned.classifier.positive, learned.evaluation
    best = evaluation.suggested.threshold
    name = positive if positive.isidentifier() else "NAME"
    text = (
        f"{learned.learned:,} examples were learned from, {learned.calibrated:,} calibrated, {evaluation.n:,} "
        f"evaluated, {evaluation.positives:,} of these with the label; intervals of 95 %. Suggested: {best:g}, where "
        "recall is farthest above what is wrongly taken, on the examples that calibrated: `limits = "
        f"{{ {name} = {{ at_least = {best:g} }} }}` in a policy keeps what is like the examples of {positive}, and "
        "`at_most` drops it. Precision is that of a corpus where the label is as frequent as among these examples."
    )
    measures = tuple((key, str(getattr(evaluation, key.replace(" ", "_")))) for key in ("auc", "accuracy", "log loss"))
    points = sorted({point.threshold: point for point in (*evaluation.points, evaluation.suggested)}.items())
    thresholds = tuple((f"{at:g}", str(each.precision), str(each.recall), str(each.wrongly)) for at, each in points)
    mistakes = [abs(each.label - p) for each, p in zip(learned.evaluated, learned.probabilities, strict=True)]
    worst = [int(place) for place in np.argsort(mistakes, kind="stable")[: -_WORST - 1 : -1]]
    rows = [(float(learned.probabilities[place]), *_shown(learned.evaluated[place])) for place in worst]
    tables = (
        Table(("measure", "value"), measures),
        Table(("threshold", "precision", "recall", "wrongly taken"), thresholds),
        Table(("n-gram", "weight"), learned.heaviest, "What it goes by: the largest weights"),
        Table(("probability", "label", "example", "beginning"), tuple(rows), "The most mistaken"),
    )
    return Section("The classifier", text, tables, alarms=_alarms(examples, evaluation))


def _shown(example: Example) -> tuple[str, str, str]:
    beginning = " ".join(example.text[: 4 * _BEGINNING].split())[:_BEGINNING]
    return "yes" if example.label else "no", example.name, beginning


def _alarms(examples: Sequence[Example], evaluation: Evaluation) -> tuple[str, ...]:
    found = []
    lengths = [median(len(each.text) for each in examples if each.label == has) for has in (True, False)]
    if (times := max(lengths) / max(min(lengths), 1)) > _UNLIKE:
        found.append(f"The texts of one side are {times:.0f} times as long, which is learned: give texts of one sort.")
    if evaluation.auc.interval[0] <= 0.5:
        found.append("It may be no better than chance: give more examples, or examples that differ more.")
    elif evaluation.auc.value < _WEAK:
        found.append("It is wrong too often to decide alone: give more examples, or cut only the extremes.")
    return tuple(found)
