"""A linear classifier of texts, as filters of training data are: logistic regression on hashed words and pairs.

It learns from the user's own examples (`classifier_trainer.py`). A text is its n-grams of 1 to `order` tokens,
casefolded and hashed into 2^bits buckets; the value of a bucket is the square root of its share, so that every text has
length 1, and the hundredth occurrence of a word says less than the first. A model on disk is worth something only as
long as hashes and tokens are those that it learned from: raise `FEATURES` with either, and older models are refused.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import check_new
from lmworks.atomic_file import new_file
from lmworks.corpus.attributes import Attributes
from lmworks.corpus.dedup.hashes import mix
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEATURES = 1  # version of tokens and hashes

_SUFFIX = ".npz"
_NEWLINE = 10
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it is 0 modulo 2^64


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

        return expit(linear(features(texts, self.order, self.bits), self.weights) + self.bias)

    def save(self, path: Path) -> None:
        """One new .npz file of arrays alone, no code; equal classifiers give equal files. FileExistsError rather than
        overwrite."""
        description = {"features": FEATURES, "order": self.order, "bias": self.bias, "positive": self.positive}
        text = json.dumps({**description, "evaluation": self.evaluation}, ensure_ascii=False, allow_nan=False)
        with new_file(path) as temporary, temporary.open("wb") as stream:
            described = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
            np.savez_compressed(stream, weights=self.weights, description=described)


def load_classifier(path: Path) -> Classifier:
    """What `save` wrote. FileNotFoundError where there is no such file; ModelFileError (a ValueError) for another one,
    and for a classifier whose features are not those of this program."""
    arrays = read_arrays(path, ("weights", "description"), "classifier")
    found = json.loads(arrays["description"].tobytes().decode("utf-8", "surrogatepass"))
    check_features(path, found["features"])
    weights = arrays["weights"]
    if weights.dtype != np.float32 or weights.ndim != 1 or len(weights) != 1 << (len(weights).bit_length() - 1):
        raise ModelFileError(f"{path} is damaged: it should hold a power of two of float32 weights")
    return Classifier(weights, found["bias"], found["order"], found["positive"], found["evaluation"])


def classifier_tagger(name: str, classifier: Classifier) -> Tagger:
    """The probability as a score of this name."""
    emits = {f"score.{name}": f"the probability, from 0 to 1, that a text is {classifier.positive}"}
    return Tagger(name, partial(_tag, name, classifier), emits)


def _tag(name: str, classifier: Classifier, text: Text) -> Attributes:
    """Absent where there are no tokens."""
    return Attributes({name: float(classifier.of_tokens([text.tokens])[0])} if text.tokens else {})


# ---------------------------------------------------------------------------------------------------------------------
# Features


def token_hashes(found: Sequence[str]) -> NDArray[np.uint64]:
    """(tokens,) a number for each, whatever its case: the same ones on all machines and for all time.

    The bytes of a token are the coefficients of a polynomial at `_BASE`, modulo 2^64, whose value is mixed. Tokens hold
    no newline.
    """
    if not found:
        return np.zeros(0, np.uint64)
    data = np.frombuffer(("\n".join(found).casefold() + "\n").encode("utf-8", "surrogatepass"), np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    if len(ends) != len(found):
        raise ValueError("a token holds a newline")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    places = np.arange(len(data)) - np.repeat(starts, lengths)
    powers = np.full(lengths.max(), _BASE)
    powers[0] = 1
    powers = np.cumprod(powers)
    return mix(np.add.reduceat((data.astype(np.uint64) + np.uint64(1)) * powers[places], starts))


def hashed_ngrams(found: Sequence[str], order: int, bits: int) -> NDArray[np.int64]:
    """A bucket from 0 to 2^`bits` - 1 for each n-gram of 1 to `order` tokens; short n-grams come first."""
    single = token_hashes(found)
    grams, hashes = single, [single]
    for length in range(2, min(order, len(found)) + 1):
        grams = mix(grams[:-1] * _BASE + single[length - 1 :])
        hashes.append(grams)
    return (np.concatenate(hashes) >> np.uint64(64 - bits)).astype(np.int64)


def features(texts: Iterable[Sequence[str]], order: int, bits: int) -> "csr_matrix":
    """(texts, 2^bits) float64: the square root of each bucket's share of the n-grams of a text; rows have length 1."""
    from scipy.sparse import csr_matrix

    rows = [np.unique(hashed_ngrams(found, order, bits), return_counts=True) for found in texts]
    values = [np.sqrt(counts / counts.sum()) for _, counts in rows]
    bounds = np.cumsum([0, *map(len, values)])
    buckets = np.concatenate([np.zeros(0, np.int64), *(buckets for buckets, _ in rows)])
    return csr_matrix((np.concatenate([np.zeros(0), *values]), buckets, bounds), shape=(len(rows), 1 << bits))


def linear(seen: "csr_matrix", weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """(texts,) seen · weights. SciPy would first make a copy of all weights, for every call."""
    texts = len(seen.indptr) - 1
    rows = np.repeat(np.arange(texts), np.diff(seen.indptr))
    return np.bincount(rows, seen.data * weights[seen.indices], texts).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Files of small learned models: arrays of numpy and nothing else


class ModelFileError(ValueError):
    """A file that is not the model it should be; the message names it and the fix."""


def check_model_file(path: Path) -> None:
    """Before the work begins: FileExistsError for a file that is there, ValueError for a name that is none of numpy's
    archives."""
    check_new(path)
    if path.suffix != _SUFFIX:
        raise ValueError(f"a model is an archive of arrays: call it {path.with_suffix(_SUFFIX)}, not {path}")


def read_arrays(path: Path, names: Sequence[str], what: str) -> Mapping[str, np.ndarray]:
    """All arrays of a file, among them those named. FileNotFoundError where there is none, ModelFileError for a file
    that is no archive of arrays, or lacks some."""
    remedy = f"name the file that `lmworks data {'classifier' if what == 'classifier' else 'ngrams'}` made"
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder and no {what}: {remedy}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ModelFileError(f"{path} is no {what}: {remedy}") from error
    if missing := [name for name in names if name not in arrays]:
        raise ModelFileError(f"{path} is no {what}, as it lacks {', '.join(missing)}: {remedy}")
    return arrays


def check_features(path: Path, found: int) -> None:
    """ModelFileError for a model that learned from other tokens or hashes than this program's."""
    if found != FEATURES:
        raise ModelFileError(
            f"the model in {path} is of tokens of version {found}, this program has {FEATURES}: train it again"
        )
