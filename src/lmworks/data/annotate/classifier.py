"""A linear classifier of texts: logistic regression on hashed words and pairs of words.

It is what filters of training data are made of: of quality (Brown et al. 2020, appendix A, with hashed words; Touvron
et al. 2023, section 2.1, pages that Wikipedia refers to against others), of spam and of unwanted content (Soldaini et
al. 2024, with fastText: Joulin et al. 2017). It learns from the user's own examples, on the CPU in minutes, in
`classifier_training.py`.

A text is its n-grams of 1 to `order` tokens, hashed into 2^bits buckets; the value of a bucket is the square root of
its share, so that every text has length 1, and the hundredth occurrence of a word says less than the first.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmworks.config import from_mapping, to_mapping
from lmworks.data.annotate.classifier_evaluation import Evaluation
from lmworks.data.annotate.features import FEATURES, count_matrix, size_of
from lmworks.data.annotate.model_file import ModelFileError, read_arrays, writing_new
from lmworks.data.annotate.words import tokens
from lmworks.data.annotation import Annotations, Text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BATCH = 1024  # texts whose features are held at a time


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

    def save(self, path: Path) -> None:
        """One new .npz file of arrays alone, no code; equal classifiers give equal files. FileExistsError rather than
        overwrite."""
        told = _Description(FEATURES, self.order, self.bias, self.positive, self.evaluation)
        text = json.dumps(to_mapping(told), ensure_ascii=False, allow_nan=False)
        description = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        with writing_new(path) as stream:
            np.savez_compressed(stream, weights=self.weights, description=description)


@dataclass(frozen=True, slots=True)
class _Description:
    features: int
    order: int
    bias: float
    positive: str
    evaluation: Evaluation


def load_classifier(path: Path) -> Classifier:
    """What `save` wrote. FileNotFoundError where there is no such file; ModelFileError (a ValueError) for another one,
    and for a classifier whose features are not those of this program."""
    arrays = read_arrays(path, ("weights", "description"), "classifier")
    text = arrays["description"].tobytes().decode("utf-8", "surrogatepass")
    found = from_mapping(_Description, json.loads(text), (str(path),))
    if found.features != FEATURES:
        told = f"hashed words of version {found.features}, this program of {FEATURES}: train it again"
        raise ModelFileError(f"the classifier in {path} reads {told}")
    weights = arrays["weights"]
    if weights.dtype != np.float32 or weights.ndim != 1 or len(weights) != 1 << (len(weights).bit_length() - 1):
        raise ModelFileError(f"{path} is damaged: it should hold a power of two of float32 weights")
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


def features(texts: Iterable[Sequence[str]], order: int, bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: the square root of each bucket's share of the n-grams of a text; rows have length 1."""
    counts = count_matrix(texts, order, bits)
    totals = np.add.reduceat(np.append(counts.data, 0.0), counts.indptr[:-1]) if size_of(counts)[0] else np.zeros(0)
    counts.data = np.sqrt(counts.data / np.repeat(totals, np.diff(counts.indptr)))
    return counts


def linear(seen: "csr_matrix", weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """(texts,) seen · weights. SciPy would first make a copy of all weights, for every call."""
    texts, _ = size_of(seen)
    rows = np.repeat(np.arange(texts), np.diff(seen.indptr))
    return np.bincount(rows, seen.data * weights[seen.indices], texts).astype(np.float64)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return expit(logits)
