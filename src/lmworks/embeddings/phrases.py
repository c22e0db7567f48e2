"""Phrases: two words that are neighbours far more often than by chance become one (Mikolov et al. 2013b, section 4).

The score of a pair is equation 6 times the number of words in the text, as in the program of that paper,

    score(a, b) = (count(a b) - discount) * words / (count(a) * count(b))

which is how many times as often as by chance a is followed by b, with the discount against pairs of rare words. A pass
joins pairs from left to right, each word at most once; a second pass makes longer phrases of those.
"""

from collections.abc import Iterable

import numpy as np


def scored_pairs(
    blocks: Iterable[np.ndarray], counts: np.ndarray, threshold: float, discount: int
) -> tuple[np.ndarray, np.ndarray]:
    """(phrases, 2) int32 and (phrases,) float64: pairs that score above the threshold, sorted, and their scores.

    blocks  ids of whole sentences, a negative one behind each
    counts  (words,) int64: how often each word occurs

    Memory follows the different pairs, not the length of the text.
    """
    from scipy.sparse import coo_array, csr_array

    pairs = csr_array((len(counts), len(counts)), dtype=np.int64)
    for ids in blocks:
        left, right = ids[:-1], ids[1:]
        inside = (left >= 0) & (right >= 0)
        ones = np.ones(np.count_nonzero(inside), np.int64)
        pairs += coo_array((ones, (left[inside], right[inside])), shape=pairs.shape).tocsr()
    pairs.sort_indices()
    different = pairs.tocoo()
    left, right = different.coords
    scores = (different.data - discount) * (counts.sum() / (counts[left].astype(np.float64) * counts[right]))
    chosen = scores > threshold
    return np.stack([left, right], axis=1)[chosen].astype(np.int32), scores[chosen]


def merged(ids: np.ndarray, pairs: np.ndarray, first: int) -> np.ndarray:
    """Ids of whole sentences with each pair replaced by one id, `first` plus its row.

    Where pairs overlap, as in a run of them, every other one is taken, from the left.
    """
    if not len(pairs) or len(ids) < 2:
        return ids
    width = int(max(ids.max(), pairs.max())) + 2
    keys_of_pairs = pairs[:, 0].astype(np.int64) * width + pairs[:, 1]  # sorted, as the pairs are
    keys = ids[:-1].astype(np.int64) * width + ids[1:]
    pair_row = np.minimum(np.searchsorted(keys_of_pairs, keys), len(keys_of_pairs) - 1)
    is_pair = (keys_of_pairs[pair_row] == keys) & (ids[:-1] >= 0) & (ids[1:] >= 0)
    number = np.arange(len(keys))
    run_start = np.maximum.accumulate(np.where(is_pair & ~np.append(False, is_pair[:-1]), number, 0))
    taken = is_pair & ((number - run_start) % 2 == 0)
    result = ids.copy()
    result[:-1][taken] = first + pair_row[taken]
    return result[np.append(True, ~taken)]
