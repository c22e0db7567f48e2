"""A linear classifier of texts, as filters of training data are: logistic regression on hashed words and pairs.

It learns from the user's own examples (`classifier_trainer.py`). A text is its n-grams of 1 to `order` tokens,
casefolded and hashed into 2^bits buckets (scikit-learn's `FeatureHasher`); the value of a bucket is the square root of
its share, so that every text has length 1, and the hundredth occurrence of a word says less than the first. A model on
disk is worth something only as long as hashes and tokens are those that it learned from: raise `FEATURES` with either,
and older models are refused.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import check_new, new_file
from lmworks.corpus.attributes import Attributes
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEATURES = 2  # version of tokens and hashes


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """P(positive) = sigmoid(bias + weights · features).

    weights     (2^bits,) float32.
    order       Tokens of the longest n-grams.
    positive    What the probability is of.
    evaluation  How well it did on texts that it did not learn from, as `classifier_trainer.Evaluation` has it.
    """

    weights: NDArray[np.float32]
    bias: float
    order: int
    positive: str
    evaluation: Mapping[str, Any]

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def probabilities(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """(texts,) the probability that each has the label; a text without tokens has the one of no evidence."""
        return self.of_tokens(map(tokens, texts))

    def of_tokens(self, texts: Iterable[Sequence[str]]) -> NDArray[np.float64]:
        """(texts,) the same of texts given as their tokens."""
        from scipy.special import expit

        seen = features(texts, self.order, self.bits)
        seen.data *= self.weights[seen.indices]  # SciPy's product would first copy all weights, for every call
        return expit(np.asarray(seen.sum(axis=1)).ravel() + self.bias)

    def save(self, path: Path) -> None:
        """One new .npz file of arrays alone, no code; equal classifiers give equal files. FileExistsError rather than
        overwrite."""
        description = {"features": FEATURES, "order": self.order, "bias": self.bias, "positive": self.positive}
        text = json.dumps({**description, "evaluation": self.evaluation}, allow_nan=False)
        with new_file(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, weights=self.weights, description=np.frombuffer(text.encode(), np.uint8))


def load_classifier(path: Path) -> Classifier:
    """Read what `save` wrote. FileNotFoundError where there is no such file; ValueError for another one, and for a
    classifier whose features are not those of this program."""
    remedy = "name the file that `lmworks data classifier` made"
    if path.is_dir():
        raise ValueError(f"{path} is a folder and no classifier: {remedy}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            weights, description = archive["weights"], json.loads(archive["description"].tobytes())
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is no classifier: {remedy}") from error
    if description["features"] != FEATURES:
        raise ValueError(
            f"the model in {path} is of tokens of version {description['features']}, this program has {FEATURES}: "
            "train it again"
        )
    if weights.dtype != np.float32 or weights.ndim != 1 or len(weights) != 1 << (len(weights).bit_length() - 1):
        raise ValueError(f"{path} is damaged: it should hold a power of two of float32 weights")
    return Classifier(weights, *(description[name] for name in ("bias", "order", "positive", "evaluation")))


def check_classifier_file(path: Path) -> None:
    """Before the work begins: FileExistsError for a file that is there, ValueError for a name that is none of numpy's
    archives."""
    check_new(path)
    if path.suffix != ".npz":
        raise ValueError(f"a model is an archive of arrays: call it {path.with_suffix('.npz')}, not {path}")


def classifier_tagger(name: str, classifier: Classifier) -> Tagger:
    """The probability as a score of this name."""
    emits = {f"score.{name}": f"the probability, from 0 to 1, that a text is {classifier.positive}"}
    return Tagger(name, partial(_tag, name, classifier), emits)


def _tag(name: str, classifier: Classifier, text: Text) -> Attributes:
    """Absent where there are no tokens."""
    return Attributes({name: float(classifier.of_tokens([text.tokens])[0])} if text.tokens else {})


# ---------------------------------------------------------------------------------------------------------------------
# Features


def ngrams(found: Sequence[str], order: int) -> Iterator[str]:
    """The n-grams of 1 to `order` tokens, casefolded; short ones come first."""
    folded = list(map(str.casefold, found))
    for length in range(1, order + 1):
        yield from map(" ".join, zip(*(folded[start:] for start in range(length)), strict=False))


def features(texts: Iterable[Sequence[str]], order: int, bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: the square root of each bucket's share of the n-grams of a text; rows have length 1."""
    from sklearn.preprocessing import normalize

    seen: Any = bucket_counts((ngrams(found, order) for found in texts), bits)
    seen.data = np.sqrt(seen.data)
    return normalize(seen)  # type: ignore[return-value]


def bucket_counts(texts: Iterable[Iterable[str]], bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: how many of the n-grams of a text are in each bucket."""
    from sklearn.feature_extraction import FeatureHasher

    hasher: Any = FeatureHasher(1 << bits, input_type="string", alternate_sign=False)
    return hasher.transform([gram.encode("utf-8", "surrogatepass") for gram in found] for found in texts)
