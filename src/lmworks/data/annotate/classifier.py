"""A linear classifier of texts: logistic regression on hashed words and pairs of words.

It is what filters of training data are made of: of quality (Brown et al. 2020, appendix A, with hashed words; Touvron
et al. 2023, section 2.1, pages that Wikipedia refers to against others), of spam and of unwanted content (Soldaini et
al. 2024, with fastText: Joulin et al. 2017). It learns from the user's own examples, on the CPU in minutes.

A text is its n-grams of 1 to `order` tokens, hashed into 2^bits buckets; the value of a bucket is the square root of
its share, so that every text has length 1, and the hundredth occurrence of a word says less than the first.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json, write_json
from lmworks.config import from_mapping
from lmworks.data.annotate.classifier_evaluation import Evaluation, evaluate
from lmworks.data.annotate.features import FEATURES, check_sizes, count_matrix
from lmworks.data.annotate.words import tokens
from lmworks.data.annotation import Annotations, Text
from lmworks.data.conversations import parse_json
from lmworks.statistics import sign

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WEIGHTS, DESCRIPTION = "classifier.npz", "classifier.json"
_BATCH = 1024  # texts whose features are held at a time


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and whether it has the label that is looked for."""

    text: str
    label: bool


def read_examples(files: Sequence[Path], positive: str = "") -> Iterator[Example]:
    """The rows of .jsonl files, `{"text": ..., "label": ...}`; other keys are allowed, empty lines too.

    Labels are true and false (or 1 and 0), or words, of which `positive` is the one that is looked for. ValueError says
    which line is no example, and why.
    """
    for path in files:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}", positive)


def _parse(line: bytes, where: str, positive: str) -> Example:
    try:
        row = parse_json(line.decode("utf-8-sig"), where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError(f'{where}: an example is an object with a "text" and a "label", got {row!r:.100}')
    label = row.get("label")
    if isinstance(label, str) and positive:
        return Example(row["text"], label == positive)
    if not positive and isinstance(label, int) and label in (0, 1):  # true and false are such numbers
        return Example(row["text"], bool(label))
    wanted = f'a word ("{positive}" or another)' if positive else "true or false; for words, say which one is positive"
    raise ValueError(f'{where}: "label" must be {wanted}; got {label!r:.100}')


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """P(positive) = sigmoid(bias + weights · features).

    weights     (2^bits,) float32.
    order       Tokens of the longest n-grams.
    positive    What the probability is of.
    evaluation  How well it did on texts that it did not learn from.
    """

    weights: NDArray[np.float32]
    bias: float
    order: int
    positive: str
    evaluation: Evaluation

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def log_odds(self, texts: Iterable[Sequence[str]]) -> NDArray[np.float64]:
        """(texts,) of texts given as their tokens (`Text.tokens`): bias + weights · features.

        Each of them is what it is alone, whatever others it comes with.
        """
        found: list[NDArray[np.float64]] = [np.zeros(0)]
        batch: list[Sequence[str]] = []
        for each in texts:
            batch.append(each)
            if len(batch) == _BATCH:
                found.append(linear(features(batch, self.order, self.bits), self.weights))
                batch = []
        if batch:
            found.append(linear(features(batch, self.order, self.bits), self.weights))
        return np.concatenate(found) + self.bias

    def probabilities(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """(texts,) the probability that each has the label; a text without tokens has the one of no evidence."""
        return sigmoid(self.log_odds(map(tokens, texts)))

    def save(self, folder: Path) -> None:
        """Two files, `classifier.npz` and `classifier.json`; no code is stored. Equal classifiers give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / WEIGHTS, weights=self.weights)
        write_json(
            folder / DESCRIPTION, _Description(FEATURES, self.order, self.bias, self.positive, self.evaluation)
        )


@dataclass(frozen=True, slots=True)
class _Description:
    features: int
    order: int
    bias: float
    positive: str
    evaluation: Evaluation


def load_classifier(folder: Path) -> Classifier:
    """What `save` wrote; ValueError for one whose features are not those of this program."""
    path = folder / DESCRIPTION
    found = from_mapping(_Description, json.loads(path.read_text("utf-8")), (str(path),))
    if found.features != FEATURES:
        told = f"hashed words of version {found.features}, this program of {FEATURES}: train it again"
        raise ValueError(f"the classifier in {folder} reads {told}")
    with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
        weights = arrays["weights"]
    if weights.dtype != np.float32 or weights.ndim != 1 or len(weights) != 1 << (len(weights).bit_length() - 1):
        raise ValueError(f"{folder / WEIGHTS} is damaged: it should hold a power of two of float32 weights")
    return Classifier(weights, found.bias, found.order, found.positive, found.evaluation)


@dataclass(frozen=True, slots=True)
class Classified:
    """An annotator: the probability by a classifier as a measure of this name; absent where there are no tokens."""

    measure: str
    classifier: Classifier

    def __call__(self, text: Text) -> Annotations:
        if not text.tokens:
            return Annotations()
        return Annotations({self.measure: float(sigmoid(self.classifier.log_odds([text.tokens]))[0])})


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train_classifier(
    examples: Iterable[Example],
    positive: str,
    *,
    order: int = 2,
    bits: int = 20,
    strength: float = 10.0,
    held_out: float = 0.15,
) -> Classifier:
    """Learn from examples, calibrate on others, evaluate on others again; the same examples give the same classifier.

    positive  What the label is called, such as "quality".
    order     Tokens of the longest n-grams.
    bits      2^bits weights.
    strength  Inverse of the L2 penalty: larger follows the examples more closely.
    held_out  Share of the examples that evaluate, and share of those that calibrate. A hash of the text decides, so
              that copies of a text are on one side.

    Probabilities are right where the label is as frequent as among the examples. ValueError where one of the three
    parts lacks texts with the label, or texts without it.
    """
    check_sizes(order, bits)
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out must be above 0 and below 0.5, got {held_out:g}")
    learned, calibrating, evaluating = _parts(examples, held_out)
    weights, bias = _fit(_features_of(learned, order, bits), _labels(learned), strength)
    scores = linear(_features_of(calibrating, order, bits), weights) + bias
    slope, offset = calibration(scores, _labels(calibrating))
    weights, bias = (slope * weights).astype(np.float32), float(slope * bias + offset)
    probabilities = sigmoid(linear(_features_of(evaluating, order, bits), weights) + bias)
    texts = hash_json(sorted(example.text for example in evaluating))
    signature = sign((FEATURES, order, bits, strength, held_out, positive, texts))
    return Classifier(weights, bias, order, positive, evaluate(probabilities, _labels(evaluating), signature))


def features(texts: Iterable[Sequence[str]], order: int, bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: the square root of each bucket's share of the n-grams of a text; rows have length 1."""
    counts = count_matrix(texts, order, bits)
    totals = np.add.reduceat(np.append(counts.data, 0.0), counts.indptr[:-1]) if counts.shape[0] else np.zeros(0)
    counts.data = np.sqrt(counts.data / np.repeat(totals, np.diff(counts.indptr)))
    return counts


def linear(seen: "csr_matrix", weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """(texts,) seen · weights. SciPy would first make a copy of all weights, for every call."""
    rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
    return np.bincount(rows, seen.data * weights[seen.indices], seen.shape[0])


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


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return expit(logits)


def _parts(examples: Iterable[Example], held_out: float) -> tuple[list[Example], list[Example], list[Example]]:
    """Those to learn from, to calibrate with, to evaluate with."""
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for example in examples:
        place = int(hash_json(example.text)[:13], 16) / 16**13  # 52 bits, which a float holds exactly
        parts[2 if place < held_out else 1 if place < 2 * held_out else 0].append(example)
    for part, purpose in zip(parts, ("learn from", "calibrate with", "evaluate with"), strict=True):
        positives = sum(example.label for example in part)
        if not 0 < positives < len(part):
            told = f"{positives} with the label and {len(part) - positives} without it"
            raise ValueError(f"there are too few examples: to {purpose} there are {told}, and both are needed")
    return parts


def _features_of(examples: Sequence[Example], order: int, bits: int) -> "csr_matrix":
    return features((tokens(example.text) for example in examples), order, bits)


def _labels(examples: Sequence[Example]) -> NDArray[np.bool_]:
    return np.array([example.label for example in examples], bool)


def _fit(seen: "csr_matrix", labels: NDArray[np.bool_], strength: float) -> tuple[NDArray[np.float64], float]:
    """Only buckets that occur are fitted: the penalty makes the weight of all others 0."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is there

    occurring = np.unique(seen.indices)
    columns = np.searchsorted(occurring, seen.indices)
    narrow = csr_matrix((seen.data, columns, seen.indptr), shape=(seen.shape[0], len(occurring)))
    with threadpool_limits(limits=1):  # sums over threads would depend on how many there are
        model = LogisticRegression(C=strength, max_iter=1000).fit(narrow, labels)
    weights = np.zeros(seen.shape[1])
    weights[occurring] = model.coef_[0]
    return weights, float(model.intercept_[0])
