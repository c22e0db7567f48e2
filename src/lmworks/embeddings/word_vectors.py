"""Words with their vectors: neighbours, similarities, and analogies by 3CosAdd and 3CosMul."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np

from lmworks.config import at_least
from lmworks.embeddings.subwords import NGrams

Method = Literal["add", "multiply"]
METHODS = get_args(Method)

_EPSILON = 1e-6  # against division by zero in 3CosMul; Levy & Goldberg 2014 have 0.001, gensim this


class Neighbour(NamedTuple):
    word: str
    score: float


@dataclass(frozen=True, eq=False)
class WordVectors:
    """words    different ones, the most frequent first where frequency is known
    vectors  (words, dimensions) float32
    counts   (words,) int64: how often each was in the text; None where nobody knows
    ngrams   from which words that are not among `words` get vectors

    Raises ValueError for parts that do not fit together, for a word that is there twice, and for a vector with NaN or
    infinity in it.
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    counts: np.ndarray | None = None
    ngrams: NGrams | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words) or self.vectors.dtype != np.float32:
            raise ValueError(
                f"vectors must be ({len(self.words)}, dimensions) float32, got {self.vectors.shape} "
                f"{self.vectors.dtype}"
            )
        if self.counts is not None and self.counts.shape != (len(self.words),):
            raise ValueError(f"counts must be ({len(self.words)},), got {self.counts.shape}")
        if len(self.index) != len(self.words):
            seen: set[str] = set()
            twice = next(word for word in self.words if word in seen or seen.add(word))
            raise ValueError(f"the word {twice!r} is there more than once; leave all but the first out")
        if len(rows := np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))):
            raise ValueError(f"the vector of {self.words[rows[0]]!r} has numbers that are not finite; leave it out")
        if self.ngrams is not None and not np.isfinite(self.ngrams.vectors).all():
            raise ValueError("the vectors of n-grams have numbers that are not finite")

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> np.ndarray:
        """(words, dimensions) float32: the vectors at length 1; a vector of zeros stays as it is."""
        return unit(self.vectors)

    @property
    def dimensions(self) -> int:
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.index

    def vector(self, word: str) -> np.ndarray:
        """(dimensions,) float32, of a word that is not there by its n-grams; KeyError where that cannot be."""
        row = self.index.get(word)
        if row is not None:
            return self.vectors[row]
        vector = None if self.ngrams is None else self.ngrams.vector(word)
        if vector is None:
            no_ngram = "" if self.ngrams is None else ", nor is any of its n-grams"
            similar = get_close_matches(word.lower(), self.words, n=3)
            advice = f"did you mean {', '.join(map(repr, similar))}?" if similar else "look for another spelling"
            raise KeyError(f"{word!r} is not among the {len(self):,} words{no_ngram}; {advice}")
        return vector

    def similarity(self, first: str, second: str) -> float:
        """The cosine between two words; KeyError for one that has no vector."""
        return float(unit(self.vector(first)) @ unit(self.vector(second)))

    def neighbours(self, word: str, number: int = 10, restrict: int | None = None) -> list[Neighbour]:
        """The words nearest to one by cosine, without itself; `restrict` as in `analogy`."""
        return self.combined([word], [], number=number, restrict=restrict)

    def nearest(self, vector: np.ndarray, number: int = 10, restrict: int | None = None) -> list[Neighbour]:
        """The words nearest to a (dimensions,) vector by cosine."""
        return self._best(self.unit[:restrict] @ unit(vector.astype(np.float32)), number, [])

    def analogy(
        self, a: str, b: str, c: str, method: Method = "add", number: int = 10, restrict: int | None = None
    ) -> list[Neighbour]:
        """The words that are to c as b is to a, best first; a, b and c are never among it, as is the custom.

        restrict  looks among so many of the first (the most frequent) words only

        "add" is 3CosAdd (Mikolov et al. 2013c), "multiply" 3CosMul (Levy & Goldberg 2014, section 6), see `combined`.
        """
        return self.combined([b, c], [a], method, number, restrict)

    def combined(
        self,
        positive: Sequence[str],
        negative: Sequence[str],
        method: Method = "add",
        number: int = 10,
        restrict: int | None = None,
    ) -> list[Neighbour]:
        """The words nearest to some and far from others, without any of these.

        add       the cosine with the sum of the positive vectors of length 1, minus that of the negative ones
        multiply  the product of (1 + cosine) / 2 with each positive one, over that with each negative one plus 1e-6

        KeyError for a word that has no vector; ValueError without a positive one.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if not positive:
            raise ValueError("name at least one word to be near to")
        near, far = ([unit(self.vector(word)) for word in words] for words in (positive, negative))
        scores = offset_scores(self.unit[:restrict], near, far, method)
        return self._best(scores, number, [*positive, *negative])

    def _best(self, scores: np.ndarray, number: int, without: Sequence[str]) -> list[Neighbour]:
        at_least(1, number=number)
        hidden = [row for word in without if (row := self.index.get(word)) is not None and row < len(scores)]
        scores = scores.copy()
        scores[hidden] = -np.inf
        number = min(number, len(scores) - len(set(hidden)))
        if number <= 0:
            return []
        best = np.argpartition(-scores, number - 1)[:number]
        best = best[np.lexsort((best, -scores[best]))]  # equal scores: the more frequent word first
        return [Neighbour(self.words[row], float(scores[row])) for row in best.tolist()]


def offset_scores(
    rows: np.ndarray, near: Sequence[np.ndarray], far: Sequence[np.ndarray], method: Method
) -> np.ndarray:
    """(..., words): how well each of (words, dimensions) rows answers, by the formula of `WordVectors.combined`, with
    (..., dimensions) vectors to be near to and far from. All are of length 1."""
    if method == "add":
        return unit(np.add.reduce([*near, *(-vector for vector in far)])) @ rows.T
    over, under = ([(1 + vector @ rows.T) / 2 for vector in vectors] for vectors in (near, far))
    return np.multiply.reduce(over) / (np.multiply.reduce(under) + _EPSILON)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(…, dimensions) at length 1; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, np.float32(1), lengths)
