"""N-gram models of token ids: what a network has to beat on the same targets. Probabilities are float64 and sum to 1.

Texts are flat arrays of ids below `vocabulary`; no n-gram reaches over from one text into another.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Probabilities = NDArray[np.float64]


class KneserNey:
    """Interpolated Kneser-Ney (Chen & Goodman 1999, equations 10 to 13), over an interpolation with the uniform one:

        p(w | h) = (max(c(h w) - D, 0) + D · different words after h · p(w | h without its first)) / Σ_w c(h w)

    c counts occurrences at the highest order, and below it how many different tokens stand before the n-gram. D of each
    order is n₁ / (n₁ + 2 n₂), from how many n-grams have the count one and two (Ney et al. 1994), and ½ where none has
    one. A context that was never seen leaves its word to the shorter one. Before each text stand order - 1 marks, whose
    id is `vocabulary`.
    """

    def __init__(self, texts: Sequence[Ids], vocabulary: int, order: int = 3) -> None:
        if (vocabulary + 1) ** order >= 2**63:
            raise ValueError(f"{order}-grams of {vocabulary:,} tokens do not fit into 64 bits: use a lower order")
        self.vocabulary, self.order = vocabulary, order
        grams = np.concatenate([_keys(text, vocabulary, order) for text in texts])
        keys, counts = np.unique(grams, return_counts=True)
        self._levels = [_Level(keys, counts, vocabulary)]
        for shorter in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % (vocabulary + 1) ** shorter, return_counts=True)
            self._levels.insert(0, _Level(keys, counts, vocabulary))

    def probabilities(self, contexts: Ids, tokens: Ids) -> Probabilities:
        """Of `tokens` (n,) after `contexts` (n, order - 1), oldest first, filled with `vocabulary` where a text begins:
        (n,)."""
        base = self.vocabulary + 1
        found = np.full(len(tokens), 1 / self.vocabulary)
        context = np.zeros(len(tokens), np.int64)
        for order, level in enumerate(self._levels, start=1):
            if order > 1:
                context = context + contexts[:, -(order - 1)] * base ** (order - 2)
            found = level.interpolated(context, tokens, found)
        return found

    def of_texts(self, texts: Sequence[Ids]) -> list[Probabilities]:
        """Of each token of each text, (tokens,), after all that stands before it."""
        contexts = [_windows(text, self.vocabulary, self.order)[:, :-1] for text in texts]
        return [self.probabilities(context, text) for context, text in zip(contexts, texts, strict=True)]

    def table(self) -> Probabilities:
        """p(w | h) of a bigram model: (vocabulary + 1, vocabulary), the last row at a text's beginning."""
        tokens = np.arange(self.vocabulary)
        rows = (np.full((self.vocabulary, 1), context) for context in range(self.vocabulary + 1))
        return np.stack([self.probabilities(context, tokens) for context in rows])


class _Level:
    """N-grams of one order. A key is an n-gram as a number with `vocabulary + 1` as its base, the last token lowest."""

    def __init__(self, keys: Ids, counts: Ids, vocabulary: int) -> None:
        self.keys, self.counts, self.base = keys, counts, vocabulary + 1
        self.contexts, first, self.different = np.unique(keys // self.base, return_index=True, return_counts=True)
        self.totals = np.add.reduceat(counts, first)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        self.discount = once / (once + 2 * twice) if once else 0.5  # or a word never seen could not occur

    def interpolated(self, contexts: Ids, tokens: Ids, shorter: Probabilities) -> Probabilities:
        """This order's probabilities over those of the shorter contexts, all (n,)."""
        place = _find(self.contexts, contexts)
        seen = place >= 0
        gram = _find(self.keys, contexts * self.base + tokens)
        counts = np.where(gram >= 0, self.counts[gram], 0)
        mass = np.maximum(counts - self.discount, 0) + self.discount * self.different[place] * shorter
        return np.where(seen, mass / self.totals[place], shorter)


class Between:
    """A token from its two neighbours, of which either may be unknown.

    both     counts of (left, w, right), discounted as in `KneserNey`, over the Markov chain's p(w | left) p(right | w)
             / Σ, of the bigram model
    left     the bigram model of the texts; `right`, of the texts written backwards
    neither  frequencies, each token counted once more than it occurs

    Ids of neighbours may be `UNKNOWN`.
    """

    UNKNOWN = -1

    def __init__(self, texts: Sequence[Ids], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        counts = np.bincount(np.concatenate(texts), minlength=vocabulary) + 1
        self._alone = counts / counts.sum()
        self._left = KneserNey(texts, vocabulary, 2).table()
        self._right = KneserNey([text[::-1] for text in texts], vocabulary, 2).table()
        triples = np.concatenate([_triples(text, vocabulary) for text in texts])
        self._level = _Level(*np.unique(triples, return_counts=True), vocabulary)

    def unigram(self, left: Ids, right: Ids) -> Probabilities:
        """(n,) and (n,) → (n, vocabulary), as all four."""
        return np.tile(self._alone, (len(left), 1))

    def from_left(self, left: Ids, right: Ids) -> Probabilities:
        return np.where((left >= 0)[:, None], self._left[left], self._alone)

    def from_right(self, left: Ids, right: Ids) -> Probabilities:
        return np.where((right >= 0)[:, None], self._right[right], self._alone)

    def from_both(self, left: Ids, right: Ids) -> Probabilities:
        chain = self._left[left] * self._left[:-1, right].T  # (n, vocabulary)
        chain /= chain.sum(axis=1, keepdims=True)
        context = (np.maximum(left, 0) * (self.vocabulary + 1) + np.maximum(right, 0))[:, None]
        contexts, tokens = np.broadcast_arrays(context, np.arange(self.vocabulary))
        found = self._level.interpolated(contexts.ravel(), tokens.ravel(), chain.ravel()).reshape(chain.shape)
        one = np.where((left >= 0)[:, None], self.from_left(left, right), self.from_right(left, right))
        return np.where(((left >= 0) & (right >= 0))[:, None], found, one)


def _windows(text: Ids, vocabulary: int, order: int) -> Ids:
    """(tokens, order): each token behind those before it."""
    padded = np.concatenate([np.full(order - 1, vocabulary), text])
    return np.lib.stride_tricks.sliding_window_view(padded, order)[: len(text)]


def _keys(text: Ids, vocabulary: int, order: int) -> Ids:
    return _windows(text, vocabulary, order) @ ((vocabulary + 1) ** np.arange(order - 1, -1, -1))


def _triples(text: Ids, vocabulary: int) -> Ids:
    """Keys of (left, right, w)."""
    base = vocabulary + 1
    return (text[:-2] * base + text[2:]) * base + text[1:-1]


def _find(sorted_keys: Ids, wanted: Ids) -> Ids:
    """Where each wanted key stands; -1 where it does not."""
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[place] == wanted, place, -1)
