"""Is a text like those that one wants more of? A measure that is cheaper than a classifier (`classifier.py`).

`importance` is the logarithm of the importance weight of Xie et al. 2023, "Data Selection for Language Models via
Importance Resampling" (section 3): how much likelier the hashed n-grams of a text are under those of target texts than
under those of raw ones. Nothing is trained but counted, in one pass over each.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import write_json
from lmworks.config import from_mapping
from lmworks.data.annotate.features import FEATURES, check_sizes, hashed_ngrams
from lmworks.data.annotate.words import tokens
from lmworks.data.annotation import Annotations, Text

RATIOS, DESCRIPTION = "importance.npz", "importance.json"


@dataclass(frozen=True, slots=True, eq=False)
class Importance:
    """An annotator of `importance`.

    ratios  (2^bits,) float32: ln p(bucket | target) - ln p(bucket | raw).
    order   Tokens of the longest n-grams.
    """

    ratios: NDArray[np.float32]
    order: int

    @property
    def bits(self) -> int:
        return len(self.ratios).bit_length() - 1

    def __call__(self, text: Text) -> Annotations:
        """Two measures, absent for a text without tokens:

        importance            ln p(text | target) - ln p(text | raw) in nats: the logarithm of the weight with which
                              Xie et al. draw. It grows with the length of a text; they compare pieces of 128 words.
        importance_per_ngram  The same for each n-gram, which texts of any length can be compared by.
        """
        if not text.tokens:
            return Annotations()
        total, number = self.weigh(text.tokens)
        return Annotations({"importance": total, "importance_per_ngram": total / number})

    def weigh(self, found: Sequence[str]) -> tuple[float, int]:
        """The log weight of a text that is given as its tokens, and how many n-grams it has."""
        buckets = hashed_ngrams(found, self.order, self.bits)
        return float(self.ratios[buckets].sum(dtype=np.float64)), len(buckets)

    def save(self, folder: Path) -> None:
        """Two files, `importance.npz` and `importance.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / RATIOS, ratios=self.ratios)
        write_json(folder / DESCRIPTION, _Description(FEATURES, self.order))


@dataclass(frozen=True, slots=True)
class _Description:
    features: int
    order: int


def load_importance(folder: Path) -> Importance:
    """What `save` wrote; ValueError for one whose features are not those of this program."""
    path = folder / DESCRIPTION
    found = from_mapping(_Description, json.loads(path.read_text("utf-8")), (str(path),))
    if found.features != FEATURES:
        told = f"hashed words of version {found.features}, this program of {FEATURES}: count again"
        raise ValueError(f"the importance weights in {folder} are of {told}")
    with np.load(folder / RATIOS, allow_pickle=False) as arrays:
        ratios = arrays["ratios"]
    if ratios.dtype != np.float32 or ratios.ndim != 1 or len(ratios) != 1 << (len(ratios).bit_length() - 1):
        raise ValueError(f"{folder / RATIOS} is damaged: it should hold a power of two of float32 ratios")
    return Importance(ratios, found.order)


def train_importance(
    target: Iterable[str], raw: Iterable[str], *, order: int = 2, bits: int = 14, smoothing: float = 1.0
) -> Importance:
    """Count the n-grams of the texts that one wants more of, and of those that are chosen from.

    order      Tokens of the longest n-grams; 2 in the paper.
    bits       2^bits buckets; 10,000 in the paper.
    smoothing  Occurrences that each bucket has beyond those counted, so that none is impossible.

    ValueError where either has no tokens.
    """
    check_sizes(order, bits)
    if not smoothing > 0:
        raise ValueError(f"smoothing must be above 0, got {smoothing:g}")
    logarithms = [
        np.log(_shares(texts, order, bits, smoothing, name)) for texts, name in ((target, "target"), (raw, "raw"))
    ]
    return Importance((logarithms[0] - logarithms[1]).astype(np.float32), order)


def _shares(texts: Iterable[str], order: int, bits: int, smoothing: float, name: str) -> NDArray[np.float64]:
    counts = np.zeros(1 << bits)
    for text in texts:
        counts += np.bincount(hashed_ngrams(tokens(text), order, bits), minlength=1 << bits)
    if not counts.any():
        raise ValueError(f"the {name} texts hold no words: nothing can be counted")
    return (counts + smoothing) / (counts.sum() + smoothing * len(counts))
