"""How a classifier of texts learns: from some examples, calibrated on others, and evaluated on others again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.data.annotate.classifier import Classifier, features, linear, sigmoid
from lmworks.data.annotate.classifier_evaluation import evaluate, suggest_threshold
from lmworks.data.annotate.classifier_examples import Example
from lmworks.data.annotate.classifier_features import TellingFeature, telling_features
from lmworks.data.annotate.config import ClassifierConfig
from lmworks.data.annotate.features import FEATURES, size_of
from lmworks.data.annotate.words import tokens
from lmworks.progress import Report, no_report
from lmworks.statistics import sign

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_STEPS = 6  # that the progress counts


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A classifier, and what it is judged by.

    evaluated      The examples that it was evaluated on.
    probabilities  (evaluated,) of each.
    telling        The n-grams that part the examples it learned from, the most telling ones first.
    learned        How many examples it learned from, and how many it was `calibrated` on.
    """

    classifier: Classifier
    evaluated: tuple[Example, ...]
    probabilities: NDArray[np.float64]
    telling: tuple[TellingFeature, ...]
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
    seen = []
    for step, part in enumerate(parts):
        progress(step, _STEPS, "steps")
        seen.append(_features_of(part, config))
    weights, bias = _fit(seen[0], _labels(parts[0]), config.strength)
    progress(4, _STEPS, "steps")
    scores = linear(seen[1], weights) + bias
    slope, offset = calibration(scores, _labels(parts[1]))
    weights, bias = (slope * weights).astype(np.float32), float(slope * bias + offset)
    threshold = suggest_threshold(sigmoid(linear(seen[1], weights) + bias), _labels(parts[1]))
    probabilities = sigmoid(linear(seen[2], weights) + bias)
    texts = hash_json(sorted(example.text for example in parts[2]))
    signature = sign((FEATURES, config, positive, texts))
    evaluation = evaluate(probabilities, _labels(parts[2]), signature, threshold)
    classifier = Classifier(weights, bias, config.order, positive, evaluation)
    progress(5, _STEPS, "steps")
    telling = telling_features(classifier, seen[0], parts[0])
    progress(_STEPS, _STEPS, "steps")
    return Learned(classifier, tuple(parts[2]), probabilities, telling, len(parts[0]), len(parts[1]))


def calibration(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset for which sigmoid(slope · score + offset) is a probability.

    Platt 1999, "Probabilistic outputs for support vector machines": maximum likelihood with targets a little inside of
    0 and 1, so that labels which a threshold parts give finite numbers.
    """
    from scipy.optimize import minimize

    positives = int(labels.sum())
    negatives = len(labels) - positives
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale = max(float(np.abs(scores).max()), 1e-12)  # so that the two numbers looked for are of one size

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = parameters[0] * scores / scale + parameters[1]
        errors = sigmoid(logits) - targets
        total = np.logaddexp(0.0, logits) - targets * logits
        return float(total.mean()), np.array([(errors * scores / scale).mean(), errors.mean()])

    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    return float(found.x[0] / scale), float(found.x[1])


def _parts(examples: Iterable[Example], held_out: float) -> tuple[list[Example], list[Example], list[Example]]:
    """Those to learn from, to calibrate with, to evaluate with."""
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        place = int(hash_json(example.group or example.text)[:13], 16) / 16**13  # 52 bits, which a float holds exactly
        parts[2 if place < held_out else 1 if place < 2 * held_out else 0].append(example)
    for part, purpose in zip(parts, ("learn from", "calibrate with", "evaluate with"), strict=True):
        positives = sum(example.label for example in part)
        if not 0 < positives < len(part):
            told = f"{positives} with the label and {len(part) - positives} without it"
            raise ValueError(f"there are too few examples: to {purpose} there are {told}, and both are needed")
    return parts


def _features_of(examples: Sequence[Example], config: ClassifierConfig) -> "csr_matrix":
    return features((tokens(example.text) for example in examples), config.order, config.bits)


def _labels(examples: Sequence[Example]) -> NDArray[np.bool_]:
    return np.array([example.label for example in examples], bool)


def _fit(seen: "csr_matrix", labels: NDArray[np.bool_], strength: float) -> tuple[NDArray[np.float64], float]:
    """Only buckets that occur are fitted: the penalty makes the weight of all others 0."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    occurring = np.unique(seen.indices)
    columns = np.searchsorted(occurring, seen.indices)
    narrow = csr_matrix((seen.data, columns, seen.indptr), shape=(size_of(seen)[0], len(occurring)))
    with threadpool_limits(limits=1):  # sums over threads would depend on how many there are
        model = LogisticRegression(C=strength, max_iter=1000).fit(narrow, labels)
    weights = np.zeros(size_of(seen)[1])
    weights[occurring] = model.coef_[0]
    return weights, float(model.intercept_[0])
