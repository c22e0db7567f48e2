"""How often words are neighbours, counted in bounded memory (Pennington et al. 2014, section 4.2).

    X[i, j] = sum over all places of i and j in one sentence, at most `window` apart, of 1 / distance

The table is symmetric, so the pairs with i <= j are counted. A block of the text gives sorted pairs with their sums;
when those of all blocks together outgrow the memory, they go to disk as a run, and the runs are merged range by range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmworks.embeddings.corpus import END, blocks, on_disk
from lmworks.progress import Report, no_report

PAIR = np.dtype([("key", np.int64), ("value", np.float64)])
ENTRY = np.dtype([("word", np.int32), ("context", np.int32), ("count", np.float32)])
_BLOCK = 1 << 19  # ids that are counted at once
_PAIR_BYTES = 4 * PAIR.itemsize  # of memory for each pair that is held: merging needs copies


@dataclass(frozen=True, slots=True, eq=False)
class Cooccurrences:
    """entries  (n,) of `ENTRY`, mapped from disk: every pair of words that are neighbours, in both directions, in an
    order that is random but the same for the same seed
    """

    words: int
    entries: np.ndarray

    def dense(self) -> np.ndarray:
        """(words, words) float32: the table itself, for a small vocabulary."""
        table = np.zeros((self.words, self.words), np.float32)
        table[self.entries["word"], self.entries["context"]] = self.entries["count"]
        return table


def count_neighbours(
    ids: np.ndarray, words: int, window: int, *, memory_mb: int = 1024, seed: int = 0, progress: Report = no_report
) -> Cooccurrences:
    """The table of a text of ids, with -1 behind each sentence; the result does not depend on `memory_mb`."""
    limit = memory_mb * (1 << 20) // _PAIR_BYTES
    runs: list[np.ndarray] = []
    held: list[np.ndarray] = []
    done = 0
    for block in blocks(ids, _BLOCK):
        held.append(_pairs(block, words, window))
        if sum(map(len, held)) > limit:
            held = [_added_up(held)]
            if len(held[0]) > limit // 2:
                runs.append(on_disk(held, PAIR))
                held = []
        done += len(block)
        progress(done, len(ids), "words counted")
    runs += held
    shuffled = _shuffled(_merged(runs, limit), words, limit, seed)
    return Cooccurrences(words, on_disk(shuffled, ENTRY))


def _pairs(ids: np.ndarray, words: int, window: int) -> np.ndarray:
    """(n,) of `PAIR`, sorted by key = smaller id * words + larger id: one block's pairs with their sums of 1/distance.

    The distance is the last part of what is sorted, so that one sort of integers groups and the sums have one order.
    """
    ids = ids.astype(np.int64)
    sentence = np.cumsum(ids == END)
    found = []
    for distance in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-distance], ids[distance:]
        together = (sentence[:-distance] == sentence[distance:]) & (left != END) & (right != END)
        left, right = left[together], right[together]
        found.append((np.minimum(left, right) * words + np.maximum(left, right)) * (window + 1) + distance)
    keys = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
    pairs = np.empty(len(keys), PAIR)
    pairs["key"], pairs["value"] = keys // (window + 1), 1.0 / (keys % (window + 1))
    return _grouped(pairs)


def _grouped(pairs: np.ndarray) -> np.ndarray:
    """Sorted pairs with those of one key added up."""
    if not len(pairs):
        return pairs
    starts = np.flatnonzero(np.append(True, pairs["key"][1:] != pairs["key"][:-1]))
    result = np.empty(len(starts), PAIR)
    result["key"], result["value"] = pairs["key"][starts], np.add.reduceat(pairs["value"], starts)
    return result


def _added_up(parts: Sequence[np.ndarray]) -> np.ndarray:
    together = np.concatenate(parts)
    return _grouped(together[np.argsort(together["key"], kind="stable")])


def _merged(runs: Sequence[np.ndarray], limit: int) -> Iterator[np.ndarray]:
    """The runs, each sorted, as one, in pieces of at most about `limit` pairs."""
    if not runs:
        return
    pieces = 1 + sum(map(len, runs)) // limit
    longest = max(runs, key=len)
    borders = longest["key"][np.arange(1, pieces) * len(longest) // pieces]
    cut = [np.concatenate([[0], np.searchsorted(run["key"], borders), [len(run)]]) for run in runs]
    for piece in range(pieces):
        parts = [np.asarray(run[ends[piece] : ends[piece + 1]]) for run, ends in zip(runs, cut, strict=True)]
        yield _added_up(parts)


def _shuffled(pieces: Iterator[np.ndarray], words: int, limit: int, seed: int) -> Iterator[np.ndarray]:
    """Pairs as entries in both directions, in random order: thrown into boxes that fit into memory, then each mixed."""
    generator = np.random.default_rng(seed)
    thrown: list[np.ndarray] = []
    for piece in pieces:
        entries = _entries(piece, words)
        thrown.append(on_disk([entries[generator.permutation(len(entries))]], ENTRY))
    boxes = 1 + sum(map(len, thrown)) // limit
    for box in range(boxes):  # a mixed piece's part is a random one
        parts = [part[box * len(part) // boxes : (box + 1) * len(part) // boxes] for part in thrown]
        together = np.concatenate(parts) if parts else np.empty(0, ENTRY)
        yield together[generator.permutation(len(together))]


def _entries(pairs: np.ndarray, words: int) -> np.ndarray:
    """A word that is its own neighbour counts once from either side, as the sum over places has it."""
    first, second = pairs["key"] // words, pairs["key"] % words
    two = first != second
    entries = np.empty(len(pairs) + int(two.sum()), ENTRY)
    entries["word"] = np.concatenate([first, second[two]])
    entries["context"] = np.concatenate([second, first[two]])
    entries["count"] = np.concatenate([np.where(two, 1, 2) * pairs["value"], pairs["value"][two]])
    return entries
