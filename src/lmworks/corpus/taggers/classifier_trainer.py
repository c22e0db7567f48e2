"""Train a classifier of texts: it learns from some examples, is calibrated on others, and evaluated on others again."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_fraction, hash_json
from lmworks.config import to_mapping
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.taggers.classifier import FEATURES, Classifier, bucket_counts, features, ngrams
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.corpus.taggers.tag_document import repaired_text
from lmworks.corpus.taggers.words import tokens
from lmworks.progress import Report, no_report
from lmworks.records import Document, RejectedRecord, Score, Scored, column_key
from lmworks.report import Section, Table
from lmworks.statistics import LEVEL, mean_score, sign, wilson_interval

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    Labelled = tuple[csr_matrix, NDArray[np.bool_]]  # features of texts, and which of them have the label

LEAST = 50  # different texts with the label, and without it: fewer leave next to none to calibrate and evaluate with
_TRUE = {"true": True, "1": True, "false": False, "0": False}
_HEAVIEST = 20  # weights of the table

# ---------------------------------------------------------------------------------------------------------------------
# Examples


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and whether it has the label that is looked for. Examples of one group are learned from, or evaluated
    with, but not both; "": each is a group of its own."""

    text: str
    label: bool
    group: str = ""


def examples_from(
    sources: Sequence[str],
    against: Sequence[str] = (),
    *,
    label: str = "",
    positive: str = "",
    group: str = "",
    reading: ReadConfig | None = None,
    base: Path | None = None,
    rejected: list[RejectedRecord] | None = None,
    progress: Report = no_report,
) -> list[Example]:
    """Read examples from sources with the label and others `against` them, or from sources whose rows say in the column
    `label` whether they have it.

    positive  The word in that column which is looked for; without one, true and false (or 1 and 0).
    group     The column whose words make groups.
    reading   How files are read; its own sources do not count.
    base      Where relative sources start; the current folder.
    rejected  Gets what could not be read.

    ValueError where there is too little, NoSourceError (a ValueError) for a source that does not exist.
    """
    if bool(against) == bool(label):
        raise ValueError(
            "say which texts do not have the label: either sources against, or the column of the labels of the rows"
        )
    reading, rejected = reading or ReadConfig(source_code="whole"), [] if rejected is None else rejected
    found: list[Example] = []
    for source, is_positive in [*((source, True) for source in sources), *((source, False) for source in against)]:
        for item in read_documents(replace(reading, sources=(source,)), base=base or Path.cwd()):
            if isinstance(item, Document):
                has = _has_label(item, label, positive) if label else is_positive
                found.append(Example(repaired_text(item), has, _column(item, group) or ""))
                progress(len(found), None, "documents")
            else:
                rejected.append(item)
    try:
        return usable(found)
    except ValueError as error:
        reason = next((f"{item.uri}: {item.reason}" for item in rejected if "columns.text" in item.reason), "")
        raise ValueError(f"{reason}; a command takes it as --text COLUMN. So {error}" if reason else error) from error


def usable(examples: Iterable[Example]) -> list[Example]:
    """The first of each text that has words, and one label alone; ValueError where there are too few of them."""
    labels: dict[str, set[bool]] = defaultdict(set)
    first: dict[str, Example] = {}
    for example in examples:
        if tokens(example.text):
            labels[example.text].add(example.label)
            first.setdefault(example.text, example)
    kept = [example for text, example in first.items() if len(labels[text]) == 1]
    sides = Counter(example.label for example in kept)
    if min(sides[True], sides[False]) < LEAST:
        raise ValueError(
            f"there are {sides[True]} different texts with the label and {sides[False]} without it, of those that have "
            f"words and are not on both sides: give {LEAST} of each"
        )
    return kept


def _column(document: Document, name: str) -> str | None:
    return document.metadata.get(column_key(name), document.metadata.get(name)) if name else None


def _has_label(document: Document, label: str, positive: str) -> bool:
    word = _column(document, label)
    if word is None:
        columns = ", ".join(sorted(document.metadata)) or "none"
        raise ValueError(
            f'{document.uri} has no label in a column "{label}" (its others: {columns}): name the column that '
            "holds the labels, or give texts without the label by --against"
        )
    if not positive and word.casefold() not in _TRUE:
        raise ValueError(
            f'{document.uri} has the label "{word}", which is neither true nor false: say which word is looked for, '
            f'such as --positive "{word}"'
        )
    return word == positive if positive else _TRUE[word.casefold()]


# ---------------------------------------------------------------------------------------------------------------------
# Training


@dataclass(frozen=True, slots=True)
class Evaluation:
    """On `n` texts, `positives` of which have the label.

    auc        How often a text with the label has a higher probability than one without it.
    threshold  What other texts suggested: those of this probability or a higher one are taken to have the label.
    precision  Which share of those taken has it.
    recall     Which share of those that have it is taken.
    wrongly    Which share of those that do not have it is taken.
    """

    n: int
    positives: int
    auc: Scored
    threshold: float
    precision: Score
    recall: Score
    wrongly: Score


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A classifier, and what it is judged by.

    heaviest  n-grams of the largest weights, and these; above 0 they speak for the label.
    learning  How many examples it learned from.
    """

    classifier: Classifier
    evaluation: Evaluation
    heaviest: tuple[tuple[str, float], ...]
    learning: int


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
    parts = split(examples, config.held_out)
    labels = [np.array([example.label for example in part], bool) for part in parts]
    found = [[tokens(example.text) for example in part] for part in parts]
    progress(1, 3, "steps")
    learning, calibrating = ((features(found[n], config.order, config.bits), labels[n]) for n in (0, 1))
    weights, bias = _fit(learning, calibrating, config)
    progress(2, 3, "steps")
    classifier = Classifier(weights, bias, config.order, positive, {})
    threshold = suggest_threshold(classifier.of_tokens(found[1]), labels[1])
    signature = (FEATURES, config, positive, hash_json(sorted(example.text for example in parts[2])))
    evaluation = evaluate(classifier.of_tokens(found[2]), labels[2], signature, threshold)
    classifier = replace(classifier, evaluation=to_mapping(evaluation))
    return Learned(classifier, evaluation, _heaviest(classifier, found[0]), len(parts[0]))


def split(examples: Iterable[Example], held_out: float) -> tuple[list[Example], list[Example], list[Example]]:
    """Part examples into those to learn from, to calibrate with, to evaluate with."""
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        place = hash_fraction(hash_json(example.group or example.text))
        parts[2 if place < held_out else 1 if place < 2 * held_out else 0].append(example)
    for part, purpose in zip(parts, ("learn from", "calibrate with", "evaluate with"), strict=True):
        positives = sum(example.label for example in part)
        if not 0 < positives < len(part):
            counts = f"{positives} with the label and {len(part) - positives} without it"
            raise ValueError(f"there are too few examples: to {purpose} there are {counts}, and both are needed")
    return parts


def _fit(learning: "Labelled", calibrating: "Labelled", config: ClassifierConfig) -> tuple[NDArray[np.float32], float]:
    """Weights and bias, calibrated as Platt 1999 has it ("Probabilistic outputs for support vector machines").

    Only buckets that occur are fitted: the penalty makes the weight of all others 0.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    occurring = np.unique(learning[0].indices)
    with threadpool_limits(limits=1):  # sums over threads would depend on how many there are
        model = LogisticRegression(C=config.strength, max_iter=1000).fit(learning[0][:, occurring], learning[1])
        calibrated: Any = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
        calibrated.fit(calibrating[0][:, occurring], calibrating[1])
    (platt,) = calibrated.calibrated_classifiers_[0].calibrators  # 1 / (1 + exp(a · score + b))
    weights = np.zeros(1 << config.bits, np.float32)
    weights[occurring] = -platt.a_ * model.coef_[0]
    return weights, float(-platt.a_ * model.intercept_[0] - platt.b_)


def _heaviest(classifier: Classifier, texts: Sequence[Sequence[str]]) -> tuple[tuple[str, float], ...]:
    """The buckets of the largest weights, each called by its most frequent n-gram, of equally frequent ones the first
    of the alphabet."""
    wanted = np.argsort(-np.abs(classifier.weights), kind="stable")[:_HEAVIEST].tolist()
    names: dict[int, Counter[str]] = {bucket: Counter() for bucket in wanted}
    for text in filter(None, texts):
        counts = Counter(ngrams(text, classifier.order))
        buckets = bucket_counts(([gram] for gram in counts), classifier.bits).indices.tolist()
        for (gram, count), bucket in zip(counts.items(), buckets, strict=True):
            if bucket in names:
                names[bucket][gram] += count
    called = (
        (bucket, min(counts, key=lambda name: (-counts[name], name))) for bucket, counts in names.items() if counts
    )
    return tuple((name, float(classifier.weights[bucket])) for bucket, name in called)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_], signature: object, threshold: float = 0.5
) -> Evaluation:
    """Compare (n,) probabilities with (n,) labels, some of which are true and some false. A threshold that these texts
    suggested would look better than it is: take it from others."""
    taken = probabilities >= threshold
    return Evaluation(
        n=len(labels),
        positives=int(labels.sum()),
        auc=_auc(probabilities, labels, signature),
        threshold=threshold,
        precision=mean_score(labels[taken].tolist(), signature, nothing="no text is taken"),
        recall=mean_score(taken[labels].tolist(), signature),
        wrongly=mean_score(taken[~labels].tolist(), signature),
    )


def suggest_threshold(probabilities: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The threshold where recall minus the share wrongly taken is largest (Youden 1950, "Index for rating diagnostic
    tests"), which does not depend on how frequent the label is among the texts: in the corpus that is to be filtered it
    is another one. Of several the middle one, halfway to the next lower probability."""
    from sklearn.metrics import roc_curve

    wrongly, recall, values = (column[1:] for column in roc_curve(labels, probabilities, drop_intermediate=False))
    index = (recall - wrongly)[: max(1, len(values) - 1)]  # the last threshold takes all texts
    best = np.flatnonzero(index >= index.max() - 1e-12)
    place = int(best[(len(best) - 1) // 2])
    high, low = float(values[place]), float(values[min(place + 1, len(values) - 1)])
    return (low + high) / 2 if (low + high) / 2 > low else high


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


def classifier_section(learned: Learned) -> Section:
    """How good it is, what to set, and what it goes by."""
    positive, evaluation = learned.classifier.positive, learned.evaluation
    best, name = evaluation.threshold, positive if positive.isidentifier() else "NAME"
    text = (
        f"{learned.learning:,} examples were learned from, {evaluation.n:,} evaluated, {evaluation.positives:,} of "
        f"them positive; intervals of 95 %. Suggested: `limits = {{ {name} = {{ at_least = {best:.4g} }} }}` in a "
        f"policy keeps what is like the examples of {positive}, and `at_most` drops it."
    )
    measures = tuple(
        (name, str(getattr(evaluation, name.lower()))) for name in ("AUC", "precision", "recall", "wrongly")
    )
    tables = (
        Table(("measure", "value"), measures, "At the suggested threshold"),
        Table(("n-gram", "weight"), learned.heaviest, "What it goes by: the largest weights"),
    )
    return Section("The classifier", text, tables)
