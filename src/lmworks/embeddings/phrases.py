"""Phrases: two words that are neighbours far more often than by chance become one (Mikolov et al. 2013b, section 4).

The score of a pair is equation 6 times the number of words in the text, as in the program of that paper,

    score(a, b) = (count(a b) - discount) * words / (count(a) * count(b))

which is how many times as often as by chance a is followed by b, with the discount against pairs of rare words. A pass
joins pairs from left to right, each word at most once; a second pass makes longer phrases of those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 1 << 26  # pairs that are counted at once, about: 8 bytes each


def scored_pairs(ids: np.ndarray, counts: np.ndarray, threshold: float, discount: int) -> tuple[np.ndarray, np.ndarray]:
    """(phrases, 2) int32 and (phrases,) float64: pairs that score above the threshold, and their scores.

    Pairs are counted in parts by their left word, so that memory has a bound whatever the length of the text.
    """
    words = len(counts)
    pairs, scores = [np.zeros((0, 2), np.int32)], [np.zeros(0)]
    parts = 1 + len(ids) // _AT_ONCE
    for part in range(parts):
        keys, numbers = np.unique(_pair_keys(ids, words, part, parts), return_counts=True)
        left, right = keys // words, keys % words
        score = (numbers - discount) * (counts.sum() / (counts[left].astype(np.float64) * counts[right]))
        chosen = score > threshold
        pairs.append(np.stack([left[chosen], right[chosen]], axis=1).astype(np.int32))
        scores.append(score[chosen])
    found, score = np.concatenate(pairs), np.concatenate(scores)
    order = np.lexsort((found[:, 1], found[:, 0]))
    return found[order], score[order]


def _pair_keys(ids: np.ndarray, words: int, part: int, parts: int) -> np.ndarray:
    """left * words + right of all neighbours whose left word belongs to this part."""
    found = []
    for start in range(0, len(ids), 1 << 22):
        block = np.asarray(ids[start : start + (1 << 22) + 1], np.int64)
        left, right = block[:-1], block[1:]
        chosen = (left >= 0) & (right >= 0) & (left % parts == part)
        found.append(left[chosen] * words + right[chosen])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def merged(ids: np.ndarray, pairs: np.ndarray, first: int) -> np.ndarray:
    """Ids of whole sentences with each pair replaced by one id, `first` plus its row, as `Phrases.apply` does it.

    Where pairs overlap, as in a run of them, every other one is taken, from the left.
    """
    if not len(pairs) or len(ids) < 2:
        return ids
    width = int(max(ids.max(), pairs.max())) + 2
    known = pairs[:, 0].astype(np.int64) * width + pairs[:, 1]  # sorted, as the pairs are
    keys = ids[:-1].astype(np.int64) * width + ids[1:]
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    is_pair = (known[place] == keys) & (ids[:-1] >= 0) & (ids[1:] >= 0)
    number = np.arange(len(keys))
    run_start = np.maximum.accumulate(np.where(is_pair & ~np.append(False, is_pair[:-1]), number, 0))
    taken = is_pair & ((number - run_start) % 2 == 0)
    result = ids.copy()
    result[:-1][taken] = first + place[taken]
    return result[np.append(True, ~taken)]


@dataclass(frozen=True, slots=True)
class Phrases:
    """The pairs that are phrases, with their scores."""

    scores: Mapping[tuple[str, str], float]

    def apply(self, sentence: Sequence[str]) -> list[str]:
        """The sentence with its phrases joined by `_`, from left to right."""
        result: list[str] = []
        place = 0
        while place < len(sentence):
            pair = tuple(sentence[place : place + 2])
            found = pair in self.scores
            result.append("_".join(pair) if found else sentence[place])
            place += 1 + found
        return result
