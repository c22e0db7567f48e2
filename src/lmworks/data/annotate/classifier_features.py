"""The n-grams by which a classifier parts its examples: what it has learned, to be looked at."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmworks.data.annotate.classifier import Classifier
from lmworks.data.annotate.classifier_examples import Example
from lmworks.data.annotate.features import hashed_ngrams, size_of
from lmworks.data.annotate.words import tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUMBER = 15  # of each direction


@dataclass(frozen=True, slots=True)
class TellingFeature:
    """One bucket of n-grams.

    ngram     The most frequent of its n-grams, in small letters.
    share     What it adds to the distance between the mean log-odds of texts with the label and of those without it:
              its weight times the distance between its mean values. Over all buckets they add up to that distance.
    weight    Above 0 where it speaks for the label, below where it speaks against it.
    having    How many texts with the label it occurs in, and how many `without` the label.
    """

    ngram: str
    share: float
    weight: float
    having: int
    without: int


def telling_features(
    classifier: Classifier, seen: "csr_matrix", examples: Sequence[Example], number: int = NUMBER
) -> tuple[TellingFeature, ...]:
    """The buckets with the largest shares: `number` of those for the label, and as many against it. `seen` are the
    features of the examples."""
    labels = np.array([example.label for example in examples], bool)
    means, found = zip(*(_means_and_counts(seen, np.flatnonzero(labels == has)) for has in (True, False)), strict=True)
    shares = classifier.weights * (means[0] - means[1])
    order = np.argsort(-shares, kind="stable")
    order = order[shares[order] > 0]
    best = [
        bucket for sign in (1, -1) for bucket in order[np.sign(classifier.weights[order]) == sign][:number].tolist()
    ]
    names = _names(set(best), examples, classifier.order, classifier.bits)
    return tuple(
        TellingFeature(
            names[bucket],
            float(shares[bucket]),
            float(classifier.weights[bucket]),
            int(found[0][bucket]),
            int(found[1][bucket]),
        )
        for bucket in best
    )


def _means_and_counts(seen: "csr_matrix", rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(buckets,) mean value, and in how many rows each occurs."""
    part = seen[rows]
    values = np.bincount(part.indices, part.data, size_of(seen)[1])
    return values / max(len(rows), 1), np.bincount(part.indices, minlength=size_of(seen)[1])


def _names(buckets: set[int], examples: Sequence[Example], order: int, bits: int) -> dict[int, str]:
    """The most frequent n-gram of each bucket, of equally frequent ones the first of the alphabet."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    wanted = np.array(sorted(buckets), np.int64)
    for example in examples:
        found = tokens(example.text)
        hashed = hashed_ngrams(found, order, bits)
        places = np.flatnonzero(np.isin(hashed, wanted))
        if len(places):
            grams = list(_ngrams(found, order))
            for place in places.tolist():
                counts[int(hashed[place])][grams[place]] += 1
    return {bucket: min(names, key=lambda name: (-names[name], name)) for bucket, names in counts.items()}


def _ngrams(found: Sequence[str], order: int) -> Iterator[str]:
    """In the order of `hashed_ngrams`."""
    small = [token.casefold() for token in found]
    for length in range(1, min(order, len(small)) + 1):
        for start in range(len(small) - length + 1):
            yield " ".join(small[start : start + length])
